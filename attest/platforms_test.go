// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/attest/vtpm/vtpmtest"
)

// platformPolicy accepts a platform by the measurement and registers that these machines have.
func platformPolicy(t *testing.T, platform string, measurement [48]byte, more ...string) attest.Request {
	t.Helper()
	changes := append(attesttest.OnPlatform(platform, measurement), more...)
	return attest.Request{Policy: policyOf(t, changes...), Trust: trust(t), At: attesttest.Now().Add(time.Hour)}
}

// judgeLines verifies the chain that an environment on a machine wrote.
func judgeLines(t *testing.T, req attest.Request, lines attesttest.Lines) (*attest.Result, error) {
	t.Helper()
	f, err := bundle.ReadFile(strings.NewReader(string(lines.Bytes())))
	fatal(t, err)
	req.Artifact = attest.Artifact{Name: "widget.tar.gz", Digest: binding.Sum(lines.Artifact)}
	req.Files = []*bundle.File{f}
	r, _, err := attest.Verify(t.Context(), req)
	return r, err
}

func onPlatform(platform string, o attesttest.Options) attesttest.Options {
	o.Hooks.Provenance = func(p *statement.Provenance) {
		p.BuilderID = statement.BuilderID(platform, p.Internal.Kettle.Profile)
		p.Internal.Kettle.Platform = platform
	}
	return o
}

// kindsOfMachines gives for each kind how to make a machine, its platform's name, its roots and its measurement.
func kindsOfMachines(t *testing.T) map[string]struct {
	platform    string
	machine     func() attesttest.Machine
	roots       appraise.Roots
	measurement [48]byte
} {
	t.Helper()
	a, err := vtpmtest.NewAuthority(attesttest.Now().Add(-time.Hour), attesttest.Now().Add(24*time.Hour))
	fatal(t, err)
	tpmRoots, err := appraise.Roots{}.WithTPM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Root().Raw}))
	fatal(t, err)
	tdRoots, err := appraise.Roots{}.WithPrivate(attesttest.NewTD(7).RootsPEM())
	fatal(t, err)
	mrtd := attesttest.MRTD()
	return map[string]struct {
		platform    string
		machine     func() attesttest.Machine
		roots       appraise.Roots
		measurement [48]byte
	}{
		"tdx":    {"sim", func() attesttest.Machine { return attesttest.NewTD(7) }, tdRoots, mrtd},
		"az-tdx": {"sim", func() attesttest.Machine { return attesttest.NewParavisor(t) }, tdRoots, mrtd},
		"vtpm":   {"vtpm", func() attesttest.Machine { return attesttest.NewTPM(t, a) }, tpmRoots, mrtd},
	}
}

// TestPlatforms verifies whole chains of machines of other kinds than SEV-SNP.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	for name, k := range kindsOfMachines(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := platformPolicy(t, k.platform, k.measurement)
			req.Roots = k.roots
			lines := attesttest.Whole(t, onPlatform(k.platform, attesttest.Options{Machine: k.machine(), EndorseOnce: true}))
			r, err := judgeLines(t, req, lines)
			if err != nil {
				t.Fatal(err)
			}
			if r.Platform() != k.platform {
				t.Errorf("platform %s", r.Platform())
			}
		})
	}
}

// TestAttackOtherMachine quotes a chain's parts on two machines of one kind, and on one whose register took in more.
func TestAttackOtherMachine(t *testing.T) {
	t.Parallel()
	for name, k := range kindsOfMachines(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for attack, machine := range map[string]attesttest.Machine{
				"the second quote on another": &changing{machines: []attesttest.Machine{k.machine(), k.machine()}, after: 1},
				"the third quote on another":  &changing{machines: []attesttest.Machine{k.machine(), k.machine()}, after: 2},
				"more in the register":        &extending{k.machine()},
			} {
				lines := attesttest.Whole(t, onPlatform(k.platform, attesttest.Options{Machine: machine}))
				for _, required := range []string{"[register-replay, token]", "[token]"} {
					req := platformPolicy(t, k.platform, k.measurement, "[register-replay, token]", required)
					req.Roots = k.roots
					r, err := judgeLines(t, req, lines)
					if !errors.Is(err, refusal.ErrNotVerified) || r != nil {
						t.Errorf("%s, required %s: %v", attack, required, err)
					}
				}
			}
		})
	}
}

// TestAttackOtherTPM quotes a chain's parts on two TPMs whose registers took in the same.
func TestAttackOtherTPM(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"vtpm", "az-tdx"} {
		k := kindsOfMachines(t)[name]
		req := platformPolicy(t, k.platform, k.measurement)
		req.Roots = k.roots
		two := &changing{machines: []attesttest.Machine{k.machine(), k.machine()}, after: 1, told: true}
		r, err := judgeLines(t, req, attesttest.Whole(t, onPlatform(k.platform, attesttest.Options{Machine: two})))
		if !errors.Is(err, refusal.ErrBinding) || r != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// changing quotes on its second machine after so many quotes. The second is told of events only where that is said.
type changing struct {
	machines []attesttest.Machine
	after    int
	quotes   int
	told     bool
}

func (c *changing) Extend(d binding.Digest) {
	c.machines[0].Extend(d)
	if c.told {
		c.machines[1].Extend(d)
	}
}

func (c *changing) Instance() statement.Instance { return c.machines[0].Instance() }
func (c *changing) Quote(t testing.TB, payload, context []byte) evidence.Evidence {
	t.Helper()
	c.quotes++
	if c.quotes > c.after {
		return c.machines[1].Quote(t, payload, context)
	}
	return c.machines[0].Quote(t, payload, context)
}

// extending extends its register by something that the log does not tell.
type extending struct{ attesttest.Machine }

func (e *extending) Extend(d binding.Digest) {
	e.Machine.Extend(d)
	e.Machine.Extend(binding.Sum([]byte("something else")))
}

// TestAttackBootLog sends a log of a boot along that is not the one of the registers.
func TestAttackBootLog(t *testing.T) {
	t.Parallel()
	k := kindsOfMachines(t)["tdx"]
	req := platformPolicy(t, k.platform, k.measurement)
	req.Roots = k.roots
	td := attesttest.NewTD(7)
	td.BootLog = []byte("no log at all")
	r, err := judgeLines(t, req, attesttest.Whole(t, onPlatform(k.platform, attesttest.Options{Machine: td})))
	if !errors.Is(err, refusal.ErrMalformed) || r != nil {
		t.Errorf("%v", err)
	}
}
