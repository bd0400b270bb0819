// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/reference"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/dispatch/admission"
	"github.com/kettle/attest/dispatch/admission/admissiontest"
)

// nothing demands that no credential was made.
func (g *gate) nothing() {
	g.t.Helper()
	if g.issuer.issued != 0 {
		g.t.Errorf("%d credentials were made", g.issuer.issued)
	}
}

// TestAttackReplayedRequest sends an honest machine's request a second time, byte for byte.
func TestAttackReplayedRequest(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	body := g.message(g.boot(nil), &talk{})
	if status, answer := post(t, g.server, wire.PathAdmit, body); status != http.StatusOK {
		t.Fatalf("%d: %s", status, answer)
	}
	status, answer := post(t, g.server, wire.PathAdmit, body)
	g.refused(status, answer, refusal.Binding, "nonce")
}

// TestAttackSecondAdmission has a machine that was admitted, and has fallen since, ask again: with another nonce, with
// another HPKE key, and under another environment key, which a machine without a register can make as it likes.
func TestAttackSecondAdmission(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	id := [32]byte{7}
	same := func(report []byte) { copy(report[0x140:], id[:]) }
	m := g.boot(same)
	g.admitted(m, talk{})
	status, body := g.ask(m, talk{})
	g.refused(status, body, refusal.Policy, "instance")
	status, body = g.ask(g.boot(same), talk{})
	g.refused(status, body, refusal.Policy, "instance")
	if g.issuer.issued != 1 {
		t.Errorf("%d credentials were made", g.issuer.issued)
	}
}

// TestAttackSharedKey gives the environment key of a machine that was admitted to a second one.
func TestAttackSharedKey(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	first := g.boot(nil)
	g.admitted(first, talk{})
	second, err := admissiontest.BootAs(t.Context(), g.hw.guest(t, nil), first.EnvKey, g.now())
	must(t, err)
	status, body := g.ask(second, talk{})
	g.refused(status, body, refusal.Policy, "instance")
}

// TestAttackStaleNonce answers a challenge too late.
func TestAttackStaleNonce(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	m := g.boot(nil)
	body := g.message(m, &talk{})
	g.now = func() time.Time { return attesttest.Now().Add(2 * time.Minute) }
	status, answer := post(t, g.server, wire.PathAdmit, body)
	g.refused(status, answer, refusal.Expired, "nonce")
	g.now = func() time.Time { return attesttest.Now().Add(-time.Minute) } // a server's clock that was set back
	status, answer = post(t, g.server, wire.PathAdmit, body)
	g.refused(status, answer, refusal.Expired, "nonce")
	g.nothing()
}

// TestAttackForeignNonce uses nonces that this server did not make for this environment.
func TestAttackForeignNonce(t *testing.T) {
	t.Parallel()
	g, other := newGate(t, nil, nil), newGate(t, nil, nil)
	m, neighbour := g.boot(nil), g.boot(nil)
	made := g.challenge(m.Key()).Conditions.Nonce
	older := made
	binary.BigEndian.PutUint64(older[:8], uint64(attesttest.Now().Add(time.Second).UnixNano())) //nolint:gosec // after 1970.
	tagged := made
	tagged[31] ^= 1
	for name, nonce := range map[string]binding.Digest{
		"of another environment": g.challenge(neighbour.Key()).Conditions.Nonce, "of another server": other.challenge(m.Key()).Conditions.Nonce,
		"made up": binding.Sum([]byte("nonce")), "with another time": older, "with another end": tagged,
	} {
		status, body := g.ask(m, talk{nonce: nonce})
		t.Log(name)
		g.refused(status, body, refusal.Binding, "nonce")
	}
	g.nothing()
}

// TestAttackOtherNonce shows a quote that was made for another nonce than the request names.
func TestAttackOtherNonce(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	status, body := g.ask(g.boot(nil), talk{context: func(c *binding.Context) { c.Nonce = binding.Sum([]byte("old")) }})
	g.refused(status, body, refusal.Binding, "request")
	g.nothing()
}

// TestAttackOtherHPKEKey names a key in the request that the quote does not name, so that the credential would be sealed
// to somebody else.
func TestAttackOtherHPKEKey(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	mine, err := wire.NewKey()
	must(t, err)
	status, body := g.ask(g.boot(nil), talk{context: func(c *binding.Context) { c.HPKEKey = mine.Digest() }})
	g.refused(status, body, refusal.Binding, "request")
	g.nothing()
}

// TestAttackOtherPurpose shows quotes that the machine made for something else.
func TestAttackOtherPurpose(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	d := binding.Sum([]byte("x"))
	for name, c := range map[string]binding.Context{
		"boot":     {Purpose: binding.Boot},
		"dispatch": {Purpose: binding.Dispatch, BuildID: "https://github.com/acme/widget", BootEvidence: d},
		"response": {Purpose: binding.Response, BuildID: "https://github.com/acme/widget", StatementKey: d, Dispatch: d, Sequence: 1, EventLogHead: d},
	} {
		status, body := g.ask(g.boot(nil), talk{context: func(own *binding.Context) {
			if c.Purpose == binding.Dispatch {
				c.Nonce = own.Nonce
			}
			*own = c
		}})
		t.Log(name)
		g.refused(status, body, refusal.Binding, "binding")
	}
	m := g.boot(nil) // and BOOT by a quote that was made for admission
	status, body := g.ask(m, talk{message: func(r *wire.Request) { r.BootEvidence = r.Evidence }})
	g.refused(status, body, refusal.EndorsementsMissing, "")
	g.nothing()
}

// TestAttackOtherSigner has another key than the environment's sign the request, and another machine's key stand in the
// evidence.
func TestAttackOtherSigner(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	thief, err := bundle.NewKey()
	must(t, err)
	resign := func(r *wire.Request) {
		b, err := bundle.Parse(r.Statement)
		must(t, err)
		r.Statement, err = bundle.Sign(t.Context(), thief, b.Payload())
		must(t, err)
	}
	status, body := g.ask(g.boot(nil), talk{message: resign})
	g.refused(status, body, refusal.Signature, "")
	status, body = g.ask(g.boot(nil), talk{message: func(r *wire.Request) {
		resign(r)
		e, err := evidence.Parse(r.Evidence)
		must(t, err)
		e.PublicKey = thief.SPKI()
		r.Evidence, err = e.Line()
		must(t, err)
	}})
	g.refused(status, body, refusal.Binding, "request")
	g.nothing()
}

// withBoot has a request show another BOOT, under its own digest.
func withBoot(boot, bootEvidence []byte) talk {
	return talk{
		request: func(s *statement.AdmissionRequest) { s.BootEvidence = binding.Sum(bootEvidence) },
		message: func(r *wire.Request) { r.Boot, r.BootEvidence = boot, bootEvidence },
	}
}

// TestAttackForeignBoot shows the BOOT statement of another machine.
func TestAttackForeignBoot(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	status, body := g.ask(g.boot(nil), withBoot(g.boot(nil).Boot()))
	g.refused(status, body, refusal.Binding, "boot")
	g.nothing()
}

// reboot makes a BOOT statement about one instance, quoted by one machine, with the key of m.
func (g *gate) reboot(m, quoter *admissiontest.Machine, instance statement.Instance) (boot, bootEvidence []byte) {
	g.t.Helper()
	s := statement.Boot{EnvironmentKey: m.Key(), Conditions: statement.BootConditions{
		Instance: instance, Configuration: binding.Sum([]byte("configuration")), Software: map[string]string{"kettled": "1.0.0"}, BootedOn: g.now(),
	}}
	payload, err := s.Marshal()
	must(g.t, err)
	boot, bootEvidence, err = quoter.Attest(g.t.Context(), payload, binding.Context{Purpose: binding.Boot}, true)
	must(g.t, err)
	return boot, bootEvidence
}

// TestAttackTwinQuote takes the environment key to a second machine and has that one quote BOOT, which names the first.
func TestAttackTwinQuote(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	m := g.boot(nil)
	twin, err := admissiontest.BootAs(t.Context(), g.hw.guest(t, nil), m.EnvKey, g.now())
	must(t, err)
	status, body := g.ask(m, withBoot(g.reboot(m, twin, m.Instance())))
	g.refused(status, body, refusal.Binding, "request")
	g.nothing()
}

// TestAttackTwinStatement has BOOT name another machine than the one that quotes it.
func TestAttackTwinStatement(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	m := g.boot(nil)
	status, body := g.ask(m, withBoot(g.reboot(m, m, g.boot(nil).Instance())))
	g.refused(status, body, refusal.Binding, "request")
	g.nothing()
}

// TestAttackOtherBootEvidence shows BOOT with other evidence than the quoted request names.
func TestAttackOtherBootEvidence(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	m := g.boot(nil)
	status, body := g.ask(m, talk{request: func(s *statement.AdmissionRequest) { s.BootEvidence = binding.Sum([]byte("another")) }})
	g.refused(status, body, refusal.Binding, "request")
	g.nothing()
}

// TestAttackOtherInstance has the request name another machine than its quote.
func TestAttackOtherInstance(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	status, body := g.ask(g.boot(nil), talk{request: func(s *statement.AdmissionRequest) { s.Conditions.Instance.ReportID = strings.Repeat("77", 32) }})
	g.refused(status, body, refusal.Binding, "request")
	g.nothing()
}

// TestAttackUsedMachine asks with a machine whose log says that it has had its job.
func TestAttackUsedMachine(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	used, err := admissiontest.Boot(t.Context(), g.hw.guest(t, nil), g.now(), binding.Sum([]byte("a job")))
	must(t, err)
	status, body := g.ask(used, talk{})
	g.refused(status, body, refusal.EventLogMismatch, "request")
	g.nothing()
}

// TestAttackHiddenEvents asks with a machine whose register holds more than its log says, and with a log that leaves the
// environment's key out.
func TestAttackHiddenEvents(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	hiding := g.boot(nil)
	hiding.Processor.Extend(binding.Sum([]byte("a job")))
	status, body := g.ask(hiding, talk{})
	g.refused(status, body, refusal.EventLogMismatch, "event-log")
	hiding.Log = eventlog.Log{}
	must(t, hiding.Log.Append(eventlog.Configuration, binding.Sum([]byte("configuration"))))
	status, body = g.ask(hiding, talk{})
	g.refused(status, body, refusal.EventLogMismatch, "request")
	g.nothing()
}

// TestAttackWeakMachine asks with machines that the policy does not accept: debugging, an old TCB, another measurement,
// another platform, another root.
func TestAttackWeakMachine(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		policy []string
		change func(report []byte)
		code   refusal.Code
	}{
		"debug":             {nil, func(r []byte) { r[0x00a] |= 1 << 3 }, refusal.Debug},
		"migration agent":   {nil, func(r []byte) { r[0x00a] |= 1 << 2 }, refusal.Policy},
		"old firmware":      {nil, func(r []byte) { r[0x038+6], r[0x1e0+6] = 1, 1 }, refusal.TCB},
		"other measurement": {nil, func(r []byte) { r[0x090] ^= 1 }, refusal.Measurement},
		"other platform":    {[]string{"platforms: [sim]", "platforms: [snp]"}, nil, refusal.Policy},
		"other chip":        {[]string{"chips: any", "chips: [" + strings.Repeat("11", 64) + "]"}, nil, refusal.Policy},
		"no list of keys":   {[]string{"revocation: if-present", "revocation: required"}, nil, refusal.EndorsementsMissing},
		"policy has ended":  {[]string{"expires: 2027-06-01", "expires: 2026-11-01"}, nil, refusal.Policy},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, policyFile(t), func(c *admission.Config) {})
			if tc.policy != nil {
				g.judgeBy(policyFile(t, tc.policy...))
			}
			status, body := g.ask(g.boot(tc.change), talk{})
			g.refused(status, body, tc.code, "")
			g.nothing()
		})
	}
}

// TestAttackOtherRoot asks with a machine whose processor this server's operator does not know.
func TestAttackOtherRoot(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	p, err := attesttest.OtherAuthority().NewProcessor(attesttest.LaunchDigest(), attesttest.Now())
	must(t, err)
	m, err := admissiontest.Boot(t.Context(), p, g.now())
	must(t, err)
	status, body := g.ask(m, talk{})
	g.refused(status, body, refusal.Chain, "")
	g.nothing()
}

// TestAttackRevoked asks with a machine, a key and an image that were withdrawn after they had been good.
func TestAttackRevoked(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	m := g.boot(nil)
	image := binding.Sum([]byte("image"))
	for name, list := range map[string]string{
		"chip":  "images: none, keys: none, chips: [" + m.Instance().ChipID + "]",
		"key":   "images: none, keys: [" + m.Key().String() + "], chips: none",
		"image": "images: [" + image.String() + "], keys: none, chips: none",
	} {
		g := newGate(t, nil, nil)
		g.judgeBy(withImages(t, "revoked: none", "revoked: {"+list+"}"))
		g.config.Judge.Images = known{image}
		status, body := g.ask(m, talk{message: func(r *wire.Request) { r.Image = [][]byte{[]byte(`{}`)} }})
		t.Log(name)
		g.refused(status, body, refusal.Revoked, "")
		g.nothing()
	}
}

// withImages is a policy that looks at images.
func withImages(t *testing.T, changes ...string) []byte {
	t.Helper()
	return policyFile(t, append([]string{"images: any", `images: [{issuer: "https://token.example", workflow: "https://github.com/acme/image/.github/workflows/image.yml",
    refs: any, repository: {url: "https://github.com/acme/image", id: "1", ownerId: "2"}}]`}, changes...)...)
}

// known is a verifier of images that takes every bundle for that of one image.
type known struct{ image binding.Digest }

func (k known) Verify([][]byte, reference.Booted, time.Time) (admission.Image, error) {
	return admission.Image{
		Files: []statement.Subject{{Name: "uki.efi", Digest: statement.SHA256(k.image)}}, Names: []binding.Digest{k.image}, Signed: []string{"measurement"},
	}, nil
}

// refusing is one that takes none.
type refusing struct{}

func (refusing) Verify([][]byte, reference.Booted, time.Time) (admission.Image, error) {
	return admission.Image{}, &refusal.Refusal{Link: "image", Code: refusal.Identity, Want: "the image's workflow", Got: "another"}
}

// TestAttackForeignImage asks without the bundle of an image, and with one that does not hold.
func TestAttackForeignImage(t *testing.T) {
	t.Parallel()
	g := newGate(t, withImages(t), func(c *admission.Config) { c.Judge.Images = refusing{} })
	m := g.boot(nil)
	if !g.challenge(m.Key()).Conditions.Image {
		t.Error("the challenge does not ask for the image's bundle")
	}
	status, body := g.ask(m, talk{message: func(r *wire.Request) { r.Image = [][]byte{[]byte(`{}`)} }})
	g.refused(status, body, refusal.Identity, "image")
	g.nothing()
	g.config.Judge.Images = known{binding.Sum([]byte("image"))}
	g.admitted(m, talk{message: func(r *wire.Request) { r.Image = [][]byte{[]byte(`{}`)} }})
	if log := g.audit(); !strings.Contains(log, `"name":"uki.efi"`) {
		t.Error(log)
	}
}

// TestAttackBrokenEvidence changes one byte at a time of what is sent. Nothing of it is admitted.
func TestAttackBrokenEvidence(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, nil)
	good := g.message(g.boot(nil), &talk{})
	const places = 97
	for i := range places {
		body := append([]byte(nil), good...)
		body[i*len(body)/places] ^= 0x41
		status, answer := post(t, g.server, wire.PathAdmit, body)
		if status != http.StatusOK {
			continue
		}
		// Base64 has bits that say nothing, and the hint of a bundle's key chooses nothing: then nothing was changed that
		// anybody signed or quoted, and the machine has been admitted once.
		if !sameContent(t, good, body) {
			t.Fatalf("byte %d: admitted: %s", i*len(body)/places, answer)
		}
		return
	}
	g.nothing()
}

// sameContent reports whether two requests have the same payloads and the same evidence.
func sameContent(t *testing.T, a, b []byte) bool {
	t.Helper()
	var parts [2][]string
	for i, body := range [][]byte{a, b} {
		r, err := wire.ParseRequest(body)
		must(t, err)
		for _, line := range [][]byte{r.Statement, r.Boot} {
			p, err := bundle.Parse(line)
			must(t, err)
			parts[i] = append(parts[i], string(p.Payload()))
		}
		for _, line := range [][]byte{r.Evidence, r.BootEvidence} {
			e, err := evidence.Parse(line)
			must(t, err)
			parts[i] = append(parts[i], string(e.Report), string(e.Binding), string(e.PublicKey), string(e.EventLog))
		}
	}
	return slices.Equal(parts[0], parts[1])
}

// judgeBy has the server judge by another policy.
func (g *gate) judgeBy(text []byte) {
	g.t.Helper()
	c := g.configure(text)
	g.config.Judge.Policy = c.Judge.Policy
}
