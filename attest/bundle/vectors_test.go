// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	fulcio "github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/vectors"
)

// vector is one bundle with what to demand of it and the verdict that has to come out.
type vector struct {
	Kind      string `json:"kind"`
	Bundle    string `json:"bundle"`
	Root      string `json:"root"`
	Key       string `json:"key"`
	Artifact  string `json:"artifact"`
	Digest    string `json:"digest"`
	SAN       string `json:"san"`
	SANRegexp string `json:"sanRegexp"`
	Issuer    string `json:"issuer"`
	SCT       int    `json:"sct"`
	Tlog      int    `json:"tlog"`
	Time      string `json:"time"`
	Expect    string `json:"expect"`

	dir string
}

func readVectors(t *testing.T) map[string]vector {
	t.Helper()
	dir := vectors.Sigstore(t)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]vector{}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		v := vector{dir: filepath.Join(dir, e.Name())}
		if err := json.Unmarshal(v.file(t, "vector.json"), &v); err != nil {
			t.Fatalf("%s: %v", e.Name(), err)
		}
		out[e.Name()] = v
	}
	if len(out) < 19 {
		t.Fatalf("only %d vectors", len(out))
	}
	return out
}

func (v vector) file(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(v.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVectors judges bundles that npm, GitHub, cosign, Google and others made. What each vector demands of its instance
// stands in for what its trusted root says.
func TestVectors(t *testing.T) {
	t.Parallel()
	for name, v := range readVectors(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := v.judge(t)
			switch {
			case v.Expect == "pass" && err != nil:
				t.Errorf("refused: %v (%v)", err, errors.Unwrap(err))
			case v.Expect == "fail" && err == nil:
				t.Error("accepted")
			case err != nil && !errors.Is(err, refusal.ErrNotVerified):
				t.Errorf("no refusal: %v", err)
			case err != nil:
				t.Log(err)
			}
		})
	}
}

func (v vector) judge(t *testing.T) error {
	t.Helper()
	text := v.file(t, v.Bundle)
	var spki []byte
	if v.Key != "" {
		var err error
		if spki, err = LoadPublicKey(v.file(t, v.Key)); err != nil {
			t.Fatal(err)
		}
	}
	if v.Kind == "dsse-key" {
		b, err := ParseEnvelope(bytes.TrimSpace(text))
		if err == nil {
			_, err = b.Verify(spki)
		}
		return err
	}
	tr := &Trust{instances: []*instance{v.instance(t)}}
	b, err := openAny(text)
	if err != nil {
		return err
	}
	if spki != nil {
		return tr.verifyKeyed(b, spki, verify.NewPolicy(v.artifact(t), verify.WithKey()))
	}
	i, err := tr.instanceFor(b)
	if err != nil {
		return err
	}
	if err := i.verifyAny(b, verify.NewPolicy(v.artifact(t), v.identity(t))); err != nil {
		return err
	}
	if v.SANRegexp != "" {
		content, err := b.VerificationContent()
		if err != nil {
			return err
		}
		if s, err := fulcio.SummarizeCertificate(content.Certificate()); err != nil || !regexp.MustCompile(v.SANRegexp).MatchString(s.SubjectAlternativeName) || s.Issuer != v.Issuer {
			t.Errorf("identity %+v, %v", s, err)
		}
	}
	return nil
}

func (v vector) instance(t *testing.T) *instance {
	t.Helper()
	r, issuers, err := parseRoot(v.file(t, v.Root))
	if err != nil {
		t.Fatal(err)
	}
	i, err := newInstance(r, issuers, demands{sct: v.SCT > 0, log: v.Tlog > 0, tsa: v.Time == "signed"})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (v vector) artifact(t *testing.T) verify.ArtifactPolicyOption {
	t.Helper()
	if v.Artifact != "" {
		return verify.WithArtifact(bytes.NewReader(v.file(t, v.Artifact)))
	}
	algorithm, text, ok := strings.Cut(v.Digest, ":")
	if !ok {
		return verify.WithoutArtifactUnsafe()
	}
	digest, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return verify.WithArtifactDigest(algorithm, digest)
}

func (v vector) identity(t *testing.T) verify.PolicyOption {
	t.Helper()
	if v.SAN == "" || v.Issuer == "" {
		return verify.WithoutIdentitiesUnsafe()
	}
	id, err := verify.NewShortCertificateIdentity(v.Issuer, "", v.SAN, "")
	if err != nil {
		t.Fatal(err)
	}
	return verify.WithCertificateIdentity(id)
}

// TestVectorsAsOurs verifies the same bundles as Kettle's own are: with the demands of their trusted roots, and the
// narrower format. What is accepted here is a subset.
func TestVectorsAsOurs(t *testing.T) {
	t.Parallel()
	accepted := map[string]string{}
	for name, v := range readVectors(t) {
		if v.Root == "" {
			continue
		}
		tr, err := ParseTrust(v.file(t, v.Root))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		payload, signer, err := tr.Verify(bytes.TrimSpace(v.file(t, v.Bundle)))
		switch {
		case err == nil && (len(payload) == 0 || signer.Issuer == "" || signer.SAN == "" || signer.SignedOn.IsZero()):
			t.Errorf("%s: accepted without a signer: %+v", name, signer)
		case err != nil && (payload != nil || signer != Signer{} || !errors.Is(err, refusal.ErrNotVerified)):
			t.Errorf("%s: payload or signer beside %v", name, err)
		case err == nil && v.Expect == "fail" && v.Digest == "" && v.SAN == "":
			t.Errorf("%s: accepted", name)
		case err == nil:
			accepted[name] = signer.SAN
		default:
			t.Logf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"gha-attest-custom-issuer", "gha-attest-reusable-workflow", "lab-rekor2-tsa-sct", "rekor2-dsse"} {
		if accepted[name] == "" {
			t.Errorf("%s: refused", name)
		}
	}
	for name := range accepted {
		t.Log("accepted", name)
	}
	// What the root of its instance demands is demanded, also of bundles that another root would let pass.
	if accepted["lab-tsa-only"] != "" {
		t.Error("a bundle without a log entry of an instance with a log is accepted")
	}
}

// TestVectorsTogether trusts several real instances at once: each keeps its own demands.
func TestVectorsTogether(t *testing.T) {
	t.Parallel()
	all, names := readVectors(t), []string{"gha-attest-custom-issuer", "github-tsa-release", "lab-rekor2-tsa-sct"}
	var roots [][]byte
	for _, name := range names {
		roots = append(roots, all[name].file(t, all[name].Root))
	}
	tr := trust(t, roots...)
	if len(tr.instances) != len(names) {
		t.Fatalf("%d instances", len(tr.instances))
	}
	for _, name := range []string{names[0], names[2]} {
		if _, _, err := tr.Verify(bytes.TrimSpace(all[name].file(t, all[name].Bundle))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if d := tr.instances[1].demands; d.log || d.sct || !d.tsa {
		t.Errorf("GitHub's own instance demands %+v", d)
	}
	if _, _, err := tr.Verify(bytes.TrimSpace(all["lab-tsa-only"].file(t, all["lab-tsa-only"].Bundle))); !errors.Is(err, refusal.ErrMissing) {
		t.Errorf("without a log entry, beside an instance without a log: %v", err)
	}
	if _, err := ParseTrust(bytes.Join([][]byte{roots[0], roots[0]}, nil)); !errors.Is(err, ErrTrust) {
		t.Errorf("the same instance twice: %v", err)
	}
}
