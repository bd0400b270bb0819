// SPDX-License-Identifier: Apache-2.0

package statement

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
)

func admissionDigest(s string) binding.Digest { return binding.Sum([]byte(s)) }

func admissionStatements() (*Challenge, *AdmissionRequest, *Release) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	key := admissionDigest("environment key")
	return &Challenge{key, ChallengeConditions{admissionDigest("nonce"), admissionDigest("fresh"), at, at.Add(time.Minute), true}},
		&AdmissionRequest{EnvironmentKey: key, BootEvidence: admissionDigest("boot"), Conditions: RequestConditions{
			Nonce: admissionDigest("nonce"), HPKEKey: bytes.Repeat([]byte{7}, 32), Prefix: "kettle-0123456789abcdef",
			Instance: Instance{Platform: "snp", ReportID: strings.Repeat("11", 32), ChipID: strings.Repeat("22", 64)},
		}},
		&Release{key, admissionDigest("vsa"), ReleaseConditions{admissionDigest("nonce"), admissionDigest("hpke"), bytes.Repeat([]byte{8}, 32), []byte("sealed")}}
}

// TestAdmissionStatements holds the payloads. Never edit them: a change is another attribute.
func TestAdmissionStatements(t *testing.T) {
	t.Parallel()
	c, r, s := admissionStatements()
	challenge, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	request, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	release, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ payload, digest string }{
		"challenge": {string(challenge), goldenChallenge}, "request": {string(request), goldenRequest}, "release": {string(release), goldenRelease},
	} {
		if got := admissionDigest(tc.payload).String(); got != tc.digest {
			t.Errorf("%s is sha256:%s, want %s:\n%s", name, got, tc.digest, tc.payload)
		}
	}
	if got, err := ParseChallenge(challenge); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ParseAdmissionRequest(request); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ParseRelease(release); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("%+v, %v", got, err)
	}
	for name, payload := range map[string][]byte{"challenge": challenge, "request": request, "release": release} {
		for kind, parse := range map[string]func([]byte) error{
			"challenge": func(b []byte) error { _, err := ParseChallenge(b); return err },
			"request":   func(b []byte) error { _, err := ParseAdmissionRequest(b); return err },
			"release":   func(b []byte) error { _, err := ParseRelease(b); return err },
			"boot":      func(b []byte) error { _, err := ParseBoot(b); return err },
		} {
			if err := parse(payload); (err == nil) != (name == kind) || err != nil && !errors.Is(err, refusal.ErrMalformed) {
				t.Errorf("%s read as %s: %v", name, kind, err)
			}
		}
	}
}

// SHA-256 of the payloads.
const (
	goldenChallenge = "fd6a629044ff9354545b609eacded781c1876f81c189a460df15c61995772da2"
	goldenRequest   = "df09b0d65b34bd470f14febab151e29263022b69179f93f4d95045b3338b1619"
	goldenRelease   = "f5f97bacae4acf3f168d3dab0e4ca9435a1691bde32bccb623308f46adb274e9"
)

// TestAdmissionMalformed breaks one thing at a time.
func TestAdmissionMalformed(t *testing.T) {
	t.Parallel()
	zero := binding.Digest{}
	for name, change := range map[string]func(*Challenge, *AdmissionRequest, *Release){
		"challenge without nonce":       func(c *Challenge, _ *AdmissionRequest, _ *Release) { c.Conditions.Nonce = zero },
		"challenge without fresh bytes": func(c *Challenge, _ *AdmissionRequest, _ *Release) { c.Conditions.Fresh = zero },
		"challenge without time":        func(c *Challenge, _ *AdmissionRequest, _ *Release) { c.Conditions.Time = time.Time{} },
		"challenge that has ended":      func(c *Challenge, _ *AdmissionRequest, _ *Release) { c.Conditions.Expires = c.Conditions.Time },
		"request without nonce":         func(_ *Challenge, r *AdmissionRequest, _ *Release) { r.Conditions.Nonce = zero },
		"request with a short key":      func(_ *Challenge, r *AdmissionRequest, _ *Release) { r.Conditions.HPKEKey = r.Conditions.HPKEKey[:31] },
		"request without boot":          func(_ *Challenge, r *AdmissionRequest, _ *Release) { r.BootEvidence = zero },
		"request without instance":      func(_ *Challenge, r *AdmissionRequest, _ *Release) { r.Conditions.Instance = Instance{} },
		"request without prefix":        func(_ *Challenge, r *AdmissionRequest, _ *Release) { r.Conditions.Prefix = "" },
		"request with a name":           func(_ *Challenge, r *AdmissionRequest, _ *Release) { r.Conditions.Prefix = "kettle-0123456789abcdef-1" },
		"release without nonce":         func(_ *Challenge, _ *AdmissionRequest, s *Release) { s.Conditions.Nonce = zero },
		"release without key":           func(_ *Challenge, _ *AdmissionRequest, s *Release) { s.Conditions.HPKEKey = zero },
		"release without summary":       func(_ *Challenge, _ *AdmissionRequest, s *Release) { s.Summary = zero },
		"release of nothing":            func(_ *Challenge, _ *AdmissionRequest, s *Release) { s.Conditions.Sealed = nil },
		"release too large":             func(_ *Challenge, _ *AdmissionRequest, s *Release) { s.Conditions.Sealed = make([]byte, maxSealed+1) },
		"release encapsulated short":    func(_ *Challenge, _ *AdmissionRequest, s *Release) { s.Conditions.Encapsulated = []byte{1} },
	} {
		c, r, s := admissionStatements()
		change(c, r, s)
		var payload []byte
		var err error
		switch word, _, _ := strings.Cut(name, " "); word {
		case "challenge":
			payload, _ = c.Marshal()
			_, err = ParseChallenge(payload)
		case "request":
			payload, _ = r.Marshal()
			_, err = ParseAdmissionRequest(payload)
		default:
			payload, _ = s.Marshal()
			_, err = ParseRelease(payload)
		}
		if !errors.Is(err, refusal.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, r, _ := admissionStatements()
	payload, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Replace(payload, []byte(r.HPKEKey.String()), []byte(admissionDigest("x").String()), 1)
	if _, err := ParseAdmissionRequest(other); !errors.Is(err, refusal.ErrMalformed) {
		t.Errorf("digest of another key: %v", err)
	}
}

func FuzzAdmissionStatements(f *testing.F) {
	c, r, s := admissionStatements()
	for _, m := range []interface{ Marshal() ([]byte, error) }{c, r, s} {
		payload, err := m.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = ParseChallenge(b)
		_, _ = ParseAdmissionRequest(b)
		_, _ = ParseRelease(b)
	})
}
