// SPDX-License-Identifier: Apache-2.0

package scaleset

import (
	"context"
	"errors"

	"github.com/kettle/attest/runner"
)

// errListed is the fault of an Actions service that shows what it has just deleted.
var errListed = errors.New("GitHub still shows it")

// Discard deletes the scale set of a machine that has ended. It returns nil only when the Actions service, asked again,
// knows none of the name; one that was never made is no fault. Errors are those of a [Registrar].
func Discard(ctx context.Context, c Config) error {
	r, err := New(c)
	if err != nil {
		return err
	}
	if err := r.reach(); err != nil {
		return err
	}
	set, err := r.find(ctx)
	if err != nil || set == nil {
		return err
	}
	err = r.call(ctx, "deleting scale set "+c.Name, func(ctx context.Context) error { return r.api.DeleteRunnerScaleSet(ctx, set.ID) })
	if err != nil && status(err) != 404 { // somebody was faster
		return err
	}
	if set, err = r.find(ctx); err == nil && set != nil {
		return &Error{Doing: "deleting scale set " + c.Name, kinds: []error{runner.ErrTryAgain}, cause: errListed}
	}
	return err
}
