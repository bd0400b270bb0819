// SPDX-License-Identifier: Apache-2.0

package scaleset

import (
	"testing"

	"github.com/kettle/attest/internal/fakegithub/fault"
)

// TestAttackOtherRunner: an answer between GitHub and this machine that hands out another runner than the one asked for,
// or one of another scale set. Its job would be bound to this environment.
func TestAttackOtherRunner(t *testing.T) {
	t.Parallel()
	for name, act := range map[string]fault.Act{
		"of another name": replace(`"name":"kettle-1"`, `"name":"kettle-2"`),
		"of another set":  replace(`"runnerScaleSetId":1`, `"runnerScaleSetId":2`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := w.registrar(nil)
			w.fault(fault.Rule{Path: "/**/generatejitconfig", Times: 1, Act: act})
			if reg, err := r.Register(t.Context(), "kettle-1"); err == nil || !reg.JIT.Empty() {
				t.Errorf("got %+v, %v", reg, err)
			}
		})
	}
}
