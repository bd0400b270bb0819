// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/token"
)

const goldenDir = "testdata/chain-v1"

// TestGoldenChain verifies a whole chain that was made once and is never made again: what version 1 accepted, every
// later program accepts. The files are never edited. UPDATE_GOLDEN=1 writes them only where there are none.
func TestGoldenChain(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(goldenDir); errors.Is(err, os.ErrNotExist) && os.Getenv("UPDATE_GOLDEN") != "" {
		l := attesttest.Whole(t, attesttest.Options{EndorseOnce: true})
		fatal(t, os.MkdirAll(goldenDir, 0o755))
		for name, b := range map[string][]byte{
			"widget.tar.gz": l.Artifact, "widget.tar.gz.intoto.jsonl": l.Bytes(), "policy.yaml": attesttest.PolicyFile(t),
			"roots.pem": attesttest.Authority().RootsPEM(), "github.json": attesttest.TrustFile(t),
		} {
			fatal(t, os.WriteFile(filepath.Join(goldenDir, name), b, 0o600))
		}
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(goldenDir, name))
		fatal(t, err)
		return b
	}
	f, err := os.Open(filepath.Join(goldenDir, "widget.tar.gz.intoto.jsonl"))
	fatal(t, err)
	defer f.Close()
	file, err := bundle.ReadFile(f)
	fatal(t, err)
	p, err := policy.Parse(read("policy.yaml"))
	fatal(t, err)
	r, err := attest.Roots(read("roots.pem"))
	fatal(t, err)
	tr, err := token.ParseTrust(read("github.json"))
	fatal(t, err)
	_, trace, err := attest.Verify(t.Context(), attest.Request{
		Artifact: attest.Artifact{Name: "widget.tar.gz", Digest: binding.Sum(read("widget.tar.gz"))}, Files: []*bundle.File{file},
		Policy: p, Roots: r, Trust: tr, At: time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC),
	})
	if err != nil {
		t.Errorf("%v\n%+v", err, trace)
	}
}
