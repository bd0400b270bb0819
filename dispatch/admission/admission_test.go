// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/dispatch/admission/admissiontest"
)

// TestAdmitted admits a guest, and one of the simulator that everybody can run.
func TestAdmitted(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	sim, err := admissiontest.Boot(t.Context(), attesttest.Processor(t, attesttest.LaunchDigest()), g.now())
	must(t, err)
	for _, m := range []*admissiontest.Machine{g.boot(nil), sim} {
		c := g.admitted(m, talk{})
		if c.Token.Reveal() != releasedToken {
			t.Errorf("%+v", c)
		}
	}
	files, err := os.ReadDir(filepath.Join(g.dir, "ledger"))
	must(t, err)
	if len(files) != 4 || g.issuer.issued != 2 {
		t.Errorf("%d files, %d made", len(files), g.issuer.issued)
	}
	log := g.audit()
	for _, want := range []string{`"decision":"admitted"`, `"decision":"delivered"`, `"measurement":"` + attesttest.Measurement(), `"vsaEnv"`} {
		if strings.Count(log, want) < 2 {
			t.Errorf("the audit log lacks %s: %s", want, log)
		}
	}
	if strings.Contains(log, releasedToken) {
		t.Error("a secret in the audit log")
	}
}
