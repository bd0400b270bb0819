// SPDX-License-Identifier: Apache-2.0

// Package fault holds the two ways in which evidence cannot be had: the machine is not of that kind, or it is and its
// device failed.
//
// It guarantees that the two are never the same error: a caller that tries one platform after the other may go on
// after [ErrUnsupported] and must stop at [ErrBroken], because a machine whose secure processor fails must not quietly
// be taken for a lesser one. The package decides nothing and imports the standard library only.
package fault

import (
	"errors"
	"fmt"
)

// ErrUnsupported is matched by every [UnsupportedError].
var ErrUnsupported = errors.New("platform not supported")

// ErrBroken is matched by every error of a device that is there and does not work.
var ErrBroken = errors.New("evidence device broken")

// UnsupportedError says that something of this platform cannot be had here, and what would be needed.
type UnsupportedError struct {
	Platform string // as asked for
	Need     string // what is missing
}

// Error names platform and need.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("platform %.40q is not supported: it needs %s", e.Platform, e.Need)
}

// Is matches [ErrUnsupported].
func (e *UnsupportedError) Is(target error) bool { return target == ErrUnsupported }

// Broken wraps what a device that is there did wrong, so that it matches [ErrBroken] and its cause.
func Broken(doing string, cause error) error {
	if errors.Is(cause, ErrUnsupported) {
		// A part that says "not here" of a device that was found is a fault of the device: only the text is kept.
		return fmt.Errorf("%s: %w: %s", doing, ErrBroken, cause.Error())
	}
	return fmt.Errorf("%s: %w: %w", doing, ErrBroken, cause)
}
