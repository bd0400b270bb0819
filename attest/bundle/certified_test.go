// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"testing"
	"time"

	"github.com/kettle/attest/internal/fakesigstore"
)

// signingDay is when the tests of this package sign.
func signingDay() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

func fake(t testing.TB, change func(*fakesigstore.Config)) *fakesigstore.Instance {
	t.Helper()
	cfg := fakesigstore.Config{Now: signingDay}
	if change != nil {
		change(&cfg)
	}
	i, err := fakesigstore.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func trust(t testing.TB, roots ...[]byte) *Trust {
	t.Helper()
	tr, err := ParseTrust(bytes.Join(roots, []byte("\n")))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func release() fakesigstore.Identity {
	return fakesigstore.GitHub("acme/image", ".github/workflows/image.yml", "refs/tags/v1.2.3")
}

func certified(t testing.TB, i *fakesigstore.Instance, o fakesigstore.Options) []byte {
	t.Helper()
	if o.Identity == (fakesigstore.Identity{}) {
		o.Identity = release()
	}
	line, err := i.Sign([]byte(payloadText), o)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func TestCertified(t *testing.T) {
	t.Parallel()
	i := fake(t, nil)
	tr := trust(t, i.TrustedRoot())
	for range 40 { // the log grows, and with it the proofs
		payload, signer, err := tr.Verify(certified(t, i, fakesigstore.Options{}))
		if err != nil {
			t.Fatal(err)
		}
		id := release()
		if string(payload) != payloadText || signer != (Signer{
			Issuer: fakesigstore.GitHubIssuer, SAN: "https://github.com/acme/image/.github/workflows/image.yml@refs/tags/v1.2.3",
			SourceRepository: "https://github.com/acme/image", SourceRepositoryID: id.RepositoryID, SourceOwnerID: id.OwnerID,
			SourceRef: "refs/tags/v1.2.3", SourceDigest: id.SHA, BuildSignerDigest: id.SHA, BuildConfigURI: id.SAN(),
			RunnerEnvironment: "github-hosted", Trigger: "push", Subject: id.Subject,
			RunInvocation: "https://github.com/acme/image/actions/runs/9001/attempts/1", SignedOn: signingDay(),
		}) {
			t.Fatalf("payload %q, signer %+v", payload, signer)
		}
	}
}
