// SPDX-License-Identifier: Apache-2.0

package fault_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/collect/fault"
)

// The two kinds are never the same error, whatever is wrapped in what.
func TestKinds(t *testing.T) {
	t.Parallel()
	absent := &fault.UnsupportedError{Platform: "snp", Need: "a processor"}
	if !errors.Is(absent, fault.ErrUnsupported) || errors.Is(absent, fault.ErrBroken) || !strings.Contains(absent.Error(), `"snp"`) || !strings.Contains(absent.Error(), "a processor") {
		t.Error(absent)
	}
	failed := fault.Broken("asking", io.ErrUnexpectedEOF)
	if !errors.Is(failed, fault.ErrBroken) || !errors.Is(failed, io.ErrUnexpectedEOF) || errors.Is(failed, fault.ErrUnsupported) {
		t.Error(failed)
	}
	both := fault.Broken("asking", absent)
	if !errors.Is(both, fault.ErrBroken) || errors.Is(both, fault.ErrUnsupported) || !strings.Contains(both.Error(), "a processor") {
		t.Error(both)
	}
}
