// SPDX-License-Identifier: Apache-2.0

package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/kettle/attest/runner"
)

// Remove implements [runner.Registrar]: it deletes a runner, and returns nil only when GitHub, asked again, shows none of
// this id and none of this name. A runner that was gone before is no error. One that GitHub takes for busy, which it may
// do for half a minute after the runner program was killed, is [runner.ErrBusy] at once: whether to wait is the caller's
// decision. Without an id the runner is looked for by its name, twice, since one that was just registered may show late.
// While GitHub cannot be asked, or still lists the runner ([ErrListed]), it tries a few times.
func (c *Client) Remove(ctx context.Context, reg runner.Registration) error {
	if reg.ID <= 0 && reg.Name == "" {
		return errors.New("removing a runner: neither an id nor a name")
	}
	backoff := firstWait
	for try := 1; ; try++ {
		err := c.remove(ctx, &reg)
		if err == nil || try == tries || !errors.Is(err, runner.ErrTryAgain) {
			return err
		}
		var later runner.Later
		wait := backoff
		if errors.As(err, &later) {
			wait = max(wait, later.RetryAfter())
		}
		if end, bounded := ctx.Deadline(); wait > maxWait || bounded && time.Until(end) <= wait {
			return err
		}
		if waitErr := c.clock.sleep(ctx, wait); waitErr != nil {
			return errors.Join(err, waitErr)
		}
		backoff *= 2
	}
}

// remove deletes and looks, once. It notes in reg what has to be deleted the next time.
func (c *Client) remove(ctx context.Context, reg *runner.Registration) error {
	if reg.ID <= 0 {
		found, err := c.find(ctx, *reg)
		if err == nil && found == nil {
			if err = c.clock.sleep(ctx, settleTime); err == nil {
				found, err = c.find(ctx, *reg)
			}
		}
		if err != nil || found == nil {
			return err
		}
		reg.ID = found.ID
	}
	if err := c.delete(ctx, reg.ID); err != nil {
		return err
	}
	found, err := c.find(ctx, *reg)
	if err != nil {
		return err
	}
	if found == nil {
		if _, err = c.one(ctx, reg.ID); errors.Is(err, ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
	} else {
		reg.ID = found.ID
	}
	return fmt.Errorf("removing runner %d: %w: %w", reg.ID, ErrListed, runner.ErrTryAgain)
}

// delete asks GitHub to delete a runner. One that GitHub does not show is no error here.
func (c *Client) delete(ctx context.Context, id int64) error {
	_, err := c.ask(ctx, question{doing: fmt.Sprintf("removing runner %d", id), method: http.MethodDelete, path: "/" + strconv.FormatInt(id, 10)}, nil)
	var r *RemoteError
	if errors.As(err, &r) {
		switch r.Status {
		case http.StatusNotFound:
			return nil
		case http.StatusUnprocessableEntity:
			r.kinds = append(r.kinds, runner.ErrBusy)
		}
	}
	return err
}
