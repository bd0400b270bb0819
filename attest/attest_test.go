// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/token"
)

// request is a request that a whole chain satisfies.
func request(t testing.TB, artifact []byte, file []byte) attest.Request {
	t.Helper()
	f, err := bundle.ReadFile(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return attest.Request{
		Artifact: attest.Artifact{Name: "dist/widget.tar.gz", Digest: binding.Sum(artifact)}, Files: []*bundle.File{f},
		Policy: policyOf(t), Roots: roots(t), Trust: trust(t), At: attesttest.Now().Add(time.Hour),
	}
}

func policyOf(t testing.TB, changes ...string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse(attesttest.PolicyFile(t, changes...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func trust(t testing.TB) *token.Trust {
	t.Helper()
	tr, err := token.ParseTrust(attesttest.TrustFile(t))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func roots(t testing.TB) appraise.Roots {
	t.Helper()
	r, err := attest.Roots(attesttest.Authority().RootsPEM())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerify(t *testing.T) {
	t.Parallel()
	l := attesttest.Whole(t, attesttest.Options{})
	r, trace, err := attest.Verify(t.Context(), request(t, l.Artifact, l.Bytes()))
	if err != nil {
		t.Fatalf("%v\n%+v", err, trace)
	}
	f := attesttest.Facts()
	for name, pair := range map[string][2]string{
		"platform": {r.Platform(), "sim"}, "builder": {r.BuilderID(), attesttest.BuilderID()}, "build": {r.BuildID(), f.BuildID()},
		"source": {r.IdentitySource(), "token"}, "measurement": {r.Measurement(), attesttest.Measurement()},
		"level": {r.Level(), "none"}, "sha": {r.Facts().SHA, f.SHA}, "time": {r.Time().Format(time.RFC3339), "2026-11-21T13:00:00Z"},
		"identity": {r.Identity(), "https://github.com/acme/widget/.github/workflows/release.yml@refs/tags/v1.2.3 (" + f.SHA + ", push)"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %q, want %q", name, pair[0], pair[1])
		}
	}
	if r.EnvironmentKey().IsZero() || len(r.Instance().ReportID) != 64 || r.Artifact().Name != "dist/widget.tar.gz" {
		t.Errorf("result %+v", r)
	}
	notes := strings.Join(r.Notes(), "\n")
	for _, want := range []string{"simulator", "revocation: not checked", "no timestamp", "token: judged at dispatch"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes do not say %q:\n%s", want, notes)
		}
	}
	if len(trace) != 14 {
		t.Errorf("%d links", len(trace))
	}
	for _, link := range trace {
		open := link.Name == "image" || link.Name == "admission" // the policy asks for neither
		if link.Status == attest.OK == open || open && link.Status != attest.NotRequired || link.Value == "" || link.Source == "" {
			t.Errorf("link %+v", link)
		}
	}
}

// TestVerifyJobsAPI shows that an identity without GitHub's signature passes only where the policy says so in words.
func TestVerifyJobsAPI(t *testing.T) {
	t.Parallel()
	l := attesttest.Whole(t, attesttest.Options{NoToken: true})
	req := request(t, l.Artifact, l.Bytes())
	req.Trust = nil
	req.Policy = policyOf(t, "identitySource: token", "identitySource: any", "[register-replay, token]", "[register-replay]")
	r, trace, err := attest.Verify(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if trace[12].Status != attest.NotRequired {
		t.Errorf("token link %+v", trace[12])
	}
	notes := strings.Join(r.Notes(), "\n")
	for _, want := range []string{"GitHub did not sign it", "policy: artifacts.identitySource: any"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes do not say %q:\n%s", want, notes)
		}
	}
}

// TestVerifyLaterResponse verifies the second of two artifacts, in a file that holds both and lines in another order.
func TestVerifyLaterResponse(t *testing.T) {
	t.Parallel()
	e := attesttest.Boot(t, attesttest.Options{})
	e.Dispatch(t)
	first := e.Respond(t, "a", []byte("a"))
	second := e.Respond(t, "b", []byte("b"))
	merged := append(second.Bytes(), first.Bytes()...) // BOOT and DISPATCH stand in it twice
	merged = append([]byte("{\"some\":\"other line\"}\n"), merged...)
	for _, l := range []attesttest.Lines{first, second} {
		if _, _, err := attest.Verify(t.Context(), request(t, l.Artifact, merged)); err != nil {
			t.Errorf("%s: %v", l.Artifact, err)
		}
	}
}

// TestVerifyBestCandidate shows that a broken copy does not hide a whole chain, and that otherwise the refusal is that
// of the chain which held longest.
func TestVerifyBestCandidate(t *testing.T) {
	t.Parallel()
	whole := attesttest.Whole(t, attesttest.Options{})
	other := attesttest.Whole(t, attesttest.Options{})
	other.DispatchEvidence = nil
	broken := attesttest.Whole(t, attesttest.Options{})
	broken.ResponseEvidence = nil
	if _, _, err := attest.Verify(t.Context(), request(t, whole.Artifact, append(append(broken.Bytes(), other.Bytes()...), whole.Bytes()...))); err != nil {
		t.Errorf("whole among broken: %v", err)
	}
	_, trace, err := attest.Verify(t.Context(), request(t, whole.Artifact, append(broken.Bytes(), other.Bytes()...)))
	if err == nil || failedLink(trace) != "dispatch" {
		t.Errorf("failed at %q: %v", failedLink(trace), err)
	}
}

func TestVerifyIncomplete(t *testing.T) {
	t.Parallel()
	l := attesttest.Whole(t, attesttest.Options{})
	for name, blank := range map[string]func(*attest.Request){
		"digest": func(r *attest.Request) { r.Artifact.Digest = binding.Digest{} }, "files": func(r *attest.Request) { r.Files = nil },
		"policy": func(r *attest.Request) { r.Policy = nil }, "roots": func(r *attest.Request) { r.Roots = appraise.Roots{} },
	} {
		req := request(t, l.Artifact, l.Bytes())
		blank(&req)
		if r, _, err := attest.Verify(t.Context(), req); !errors.Is(err, attest.ErrIncomplete) || r != nil {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, _, err := attest.Verify(ctx, request(t, l.Artifact, l.Bytes())); !errors.Is(err, context.Canceled) || r != nil {
		t.Errorf("cancelled: %v, %v", r, err)
	}
}

func failedLink(trace attest.Trace) string {
	for _, l := range trace {
		if l.Status == attest.Failed {
			return l.Name
		}
	}
	return ""
}

func BenchmarkVerify(b *testing.B) {
	l := attesttest.Whole(b, attesttest.Options{})
	req := request(b, l.Artifact, l.Bytes())
	b.ReportMetric(float64(len(l.Bytes())), "bundle-bytes")
	for b.Loop() {
		if _, _, err := attest.Verify(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadFile(b *testing.B) {
	file := attesttest.Whole(b, attesttest.Options{}).Bytes()
	for b.Loop() {
		if _, err := bundle.ReadFile(bytes.NewReader(file)); err != nil {
			b.Fatal(err)
		}
	}
}

// TestEndorsementsTravelOnce verifies a bundle in which BOOT's evidence alone brings the certificate.
func TestEndorsementsTravelOnce(t *testing.T) {
	t.Parallel()
	l := attesttest.Whole(t, attesttest.Options{EndorseOnce: true})
	if _, trace, err := attest.Verify(t.Context(), request(t, l.Artifact, l.Bytes())); err != nil {
		t.Errorf("%v\n%+v", err, trace)
	}
}
