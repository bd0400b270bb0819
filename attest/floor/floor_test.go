// SPDX-License-Identifier: Apache-2.0

package floor_test

import (
	"testing"

	"github.com/kettle/attest/attest/floor"
)

func TestWords(t *testing.T) {
	t.Parallel()
	for _, f := range []floor.Floor{floor.Signature, floor.Default, floor.Strict} {
		if got, err := floor.Parse(f.String()); err != nil || got != f {
			t.Errorf("%v: read back as %v, %v", f, got, err)
		}
	}
	for _, word := range []string{"", "none", "Default", "strict ", "signature\n"} {
		if got, err := floor.Parse(word); err == nil || got != 0 {
			t.Errorf("%q: read as %v", word, got)
		}
	}
	for _, f := range []floor.Floor{0, 4, 255} {
		if f.String() != "none" {
			t.Errorf("%d is called %s", uint8(f), f)
		}
	}
}
