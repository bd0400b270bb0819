// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/reference"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// The links of an admission in refusals, besides those of the packages below.
const (
	linkNonce    = "nonce"
	linkInstance = "instance"
	linkRequest  = "request"
	linkBoot     = "boot"
)

// Judge decides which environments are admitted. It is pure: it needs no network and asks no clock.
type Judge struct {
	Policy *policy.Policy
	Roots  appraise.Roots
	Images Images // nil where the policy looks at no image
}

// Validate reports what is absent.
func (j *Judge) Validate(now time.Time) error {
	if j == nil || j.Policy == nil || j.Roots.Empty() {
		return errors.New("admission: policy or roots are absent")
	}
	verifies, err := j.Policy.Environments().VerifiesImages(now)
	if err != nil {
		return fmt.Errorf("admission: %w", err)
	}
	if verifies && j.Images == nil {
		return errors.New("admission: the policy accepts images of certain workflows alone, and nothing can verify them: name Sigstore's trusted root")
	}
	return nil
}

// asksForImage reports whether a request has to bring the image's bundle.
func (j *Judge) asksForImage(at time.Time) bool {
	verifies, err := j.Policy.Environments().VerifiesImages(at)
	return err == nil && verifies // a policy that is not in force refuses later
}

// genuine is a request whose quotes are genuine and bound, of a machine that is not yet judged.
type genuine struct {
	request  *statement.AdmissionRequest
	payload  binding.Digest // of the request
	boot     *statement.Boot
	quotes   [2]*appraise.Quote // of the request, of BOOT
	instance statement.Instance
	evidence [2]*evidence.Collection
	inputs   []statement.ResourceDescriptor
}

// verify demands that a secure processor quoted this very request for this nonce, key and environment, that the
// environment's key signed it, and that BOOT is of the same environment on the same running machine.
func (j *Judge) verify(r wire.Request, s *statement.AdmissionRequest, at time.Time) (*genuine, error) {
	g := &genuine{request: s}
	var err error
	if g.evidence[1], err = evidence.Parse(r.BootEvidence); err != nil {
		return nil, ofBoot(err)
	}
	if g.evidence[0], err = evidence.Parse(r.Evidence); err != nil {
		return nil, err
	}
	if err := j.verifyRequest(g, r, at); err != nil {
		return nil, err
	}
	if err := j.verifyBoot(g, r, at); err != nil {
		return nil, ofBoot(err)
	}
	g.instance = g.quotes[0].Instance()
	err = agree(
		claim{"digest of the BOOT evidence", evidence.Digest(r.BootEvidence).String(), s.BootEvidence.String()},
		claim{"environment key of BOOT", s.EnvironmentKey.String(), g.boot.EnvironmentKey.String()},
		claim{"instance in the request", fmt.Sprint(g.instance), fmt.Sprint(s.Conditions.Instance)},
		claim{"instance in BOOT", fmt.Sprint(g.instance), fmt.Sprint(g.boot.Conditions.Instance)},
		claim{"instance of BOOT's quote", fmt.Sprint(g.instance), fmt.Sprint(g.quotes[1].Instance())},
	)
	if err != nil {
		return nil, err
	}
	if err := g.replay(); err != nil {
		return nil, err
	}
	g.inputs = []statement.ResourceDescriptor{
		attested("admission-request", r.Statement), attested("admission-evidence", r.Evidence),
		attested("boot", r.Boot), attested("boot-evidence", r.BootEvidence),
	}
	return g, nil
}

func attested(name string, line []byte) statement.ResourceDescriptor {
	return statement.ResourceDescriptor{Name: name, Digest: statement.SHA256(binding.Sum(line))}
}

// verifyRequest verifies the quote of the request: for this purpose, nonce, HPKE key and environment key.
func (j *Judge) verifyRequest(g *genuine, r wire.Request, at time.Time) error {
	e := g.evidence[0]
	payload, err := signed(r.Statement, e.PublicKey)
	if err != nil {
		return err
	}
	g.payload = binding.Sum(payload)
	// Certificates and lists travel once, with BOOT.
	q, err := appraise.Verify(&e.Evidence, []evidence.Endorsements{g.evidence[1].Endorsements}, j.Roots, at)
	if err != nil {
		return err
	}
	ctx, err := q.Binds(payload, e.Binding, binding.Admission)
	if err != nil {
		return err
	}
	g.quotes[0] = q
	s := g.request
	return agree(
		claim{"nonce in the quote", s.Conditions.Nonce.String(), ctx.Nonce.String()},
		claim{"HPKE key in the quote", s.HPKEKey.String(), ctx.HPKEKey.String()},
		claim{"environment key in the quote", s.EnvironmentKey.String(), ctx.EnvironmentKey.String()},
		claim{"key that signed the request", s.EnvironmentKey.String(), binding.Sum(e.PublicKey).String()},
	)
}

// verifyBoot verifies BOOT and its quote.
func (j *Judge) verifyBoot(g *genuine, r wire.Request, at time.Time) error {
	e := g.evidence[1]
	payload, err := signed(r.Boot, e.PublicKey)
	if err != nil {
		return err
	}
	if g.quotes[1], err = appraise.Verify(&e.Evidence, nil, j.Roots, at); err != nil {
		return err
	}
	ctx, err := g.quotes[1].Binds(payload, e.Binding, binding.Boot)
	if err != nil {
		return err
	}
	if g.boot, err = statement.ParseBoot(payload); err != nil {
		return err
	}
	return agree(
		claim{"environment key in the quote", g.request.EnvironmentKey.String(), ctx.EnvironmentKey.String()},
		claim{"key that signed it", g.request.EnvironmentKey.String(), binding.Sum(e.PublicKey).String()},
	)
}

// replay demands of both quotes an event log with the configuration and the environment's key and nothing else, and the
// machine's register, where it has one, to be the replay.
func (g *genuine) replay() error {
	want := []binding.Digest{g.boot.Conditions.Configuration, g.request.EnvironmentKey}
	for i, q := range g.quotes {
		log, err := eventlog.Parse(g.evidence[i].EventLog)
		if err != nil {
			return err
		}
		events := log.Events()
		ok := len(events) == len(want)
		for n := range want {
			ok = ok && events[n].Type == eventlog.Once()[n] && events[n].Digest == want[n]
		}
		if !ok {
			return &refusal.Refusal{
				Link: linkRequest, Code: refusal.EventLogMismatch, Want: "an event log with the configuration and the environment's key, and nothing else",
				Got: fmt.Sprintf("%d events, or other ones", len(events)), Next: "start a new machine: this one has done something else already",
			}
		}
		if _, err := q.Replays(log); err != nil {
			return err
		}
	}
	return nil
}

// accept judges the machine: floor, platform, chip, image, measurement and registers by the policy, by both quotes; boot
// logs; and what is revoked. Independent faults are joined.
func (j *Judge) accept(g *genuine, lines [][]byte, at time.Time) (Image, error) {
	var image Image
	var imageErr error
	if j.asksForImage(at) {
		image, imageErr = j.Images.Verify(lines, reference.Booted{
			Environment: g.quotes[0].Environment(),
			// BOOT's word, which the quote carries; the command line that the launch measures says the same.
			Components: map[string]binding.Digest{statement.ComponentConfiguration: g.boot.Conditions.Configuration},
		}, at)
	}
	environments := j.Policy.Environments()
	own, boot := g.quotes[0].Environment(), g.quotes[1].Environment()
	names := policy.Names{Images: image.Names, Keys: []binding.Digest{g.request.EnvironmentKey}, Chip: own.ChipID}
	if ak, err := binding.ParseDigest(g.instance.AttestationKey); err == nil {
		names.Keys = append(names.Keys, ak)
	}
	errs := []error{j.Policy.Revoked().Allow(names, at), imageErr}
	for i, q := range g.quotes {
		errs = append(errs, q.MeetsFloor(environments, at))
		if log := g.evidence[i].BootLog; len(log) > 0 {
			_, err := q.BootLog(log)
			errs = append(errs, err)
		}
	}
	if own.Signed = image.Signed; imageErr == nil { // without an image the measurement would be refused as well
		errs = append(errs, environments.Allow(own, at))
	}
	// BOOT's quote is of the same machine; that it quotes the same boot is compared, not judged a second time.
	if own.Measurement != boot.Measurement {
		errs = append(errs, agree(claim{"measurement of BOOT's quote", fmt.Sprintf("%x", own.Measurement), fmt.Sprintf("%x", boot.Measurement)}))
	}
	if err := errors.Join(errs...); err != nil {
		return Image{}, err
	}
	return image, nil
}

// entry is what the ledger keeps. On a trusted domain the chip's number is the same for every guest: there the register
// tells machines apart, which starts with the environment's key and can only be extended.
func (g *genuine) entry(at time.Time) (Entry, error) {
	e := Entry{Instance: g.instance, EnvironmentKey: g.request.EnvironmentKey, Request: g.payload, At: at}
	if g.instance.ReportID != "" || g.instance.AttestationKey != "" {
		return e, nil
	}
	e.Register = g.quotes[0].Environment().Registers[tdxRegister]
	if e.Register == "" || allZero(e.Register) {
		return Entry{}, &refusal.Refusal{
			Link: linkInstance, Code: refusal.Policy, Want: "a machine that can be told from every other: by its run-time register, where its processor names the chip alone",
			Got: "one whose register was never extended", Next: "boot a kernel that lets the guest extend RTMR3 (6.16 or newer)",
		}
	}
	return e, nil
}

// tdxRegister is the register that an environment extends on TDX, in the policy's words.
const tdxRegister = "rtmr3"

func allZero(hexadecimal string) bool {
	for _, c := range hexadecimal {
		if c != '0' {
			return false
		}
	}
	return true
}

// signed gives the payload of a line after checking that the key signed it.
func signed(line, spki []byte) ([]byte, error) {
	b, err := bundle.Parse(line)
	if err != nil {
		return nil, err
	}
	return b.Verify(spki)
}

// claim is a value that stands in two places.
type claim struct{ name, want, got string }

// agree demands that each value is the same in both places, the whole of it.
func agree(claims ...claim) error {
	var errs []error
	for _, c := range claims {
		if subtle.ConstantTimeCompare([]byte(c.want), []byte(c.got)) != 1 {
			errs = append(errs, &refusal.Refusal{
				Link: linkRequest, Code: refusal.Binding, Want: c.name + " to be " + clip(c.want), Got: clip(c.got),
				Next: "what was sent does not belong together; start a new machine",
			})
		}
	}
	return errors.Join(errs...)
}

// ofBoot says that refusals are of the BOOT statement or its evidence.
func ofBoot(err error) error {
	rs := refusal.All(err)
	if len(rs) == 0 {
		return err
	}
	errs := make([]error, len(rs))
	for i, r := range rs {
		own := *r
		own.Link = linkBoot + ", " + r.Link
		errs[i] = &own
	}
	return errors.Join(errs...)
}
