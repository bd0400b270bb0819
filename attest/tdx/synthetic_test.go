// SPDX-License-Identifier: Apache-2.0

package tdx_test

import (
	"testing"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/attest/tdx/tdxtest"
)

// scene is a platform, its quote and its collateral, all good until a test changes one thing.
type scene struct {
	config     tdxtest.Config
	quote      tdxtest.Quote
	edit       func(quote []byte) []byte
	collateral func(p *tdxtest.PKI, c *tdxtest.Collateral)
	files      func(f tdxtest.Files)
	chain      string // for a test's own use
}

func newScene() *scene { return &scene{quote: tdxtest.NewQuote()} }

func privateRoots(t testing.TB, p *tdxtest.PKI) []tdx.Root {
	t.Helper()
	roots, err := tdx.ParseRoots(p.PEM(tdxtest.Root))
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

func (s *scene) verify(t testing.TB) (*tdx.Quote, *tdxtest.PKI, error) {
	t.Helper()
	p := tdxtest.New(s.config)
	quote := p.Quote(s.quote)
	if s.edit != nil {
		quote = s.edit(quote)
	}
	q, err := tdx.Verify(quote, privateRoots(t, p), p.Day())
	if (q == nil) == (err == nil) {
		t.Fatalf("a quote and a refusal, or neither: %v", err)
	}
	return q, p, err
}

// meets demands a genuine quote and gives the verdict of a floor.
func (s *scene) meets(t testing.TB, f floor.Floor, g tdx.Guest) error {
	t.Helper()
	q, p, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	described := p.NewCollateral()
	if s.collateral != nil {
		s.collateral(p, &described)
	}
	files := p.Collateral(described)
	if s.files != nil {
		s.files(files)
	}
	c, err := tdx.ParseCollateral(files.JSON())
	if err != nil {
		return err
	}
	return q.Meets(f, tdx.Setting{Guest: g}, c, p.Day())
}

func TestSyntheticIsGood(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *scene){
		"version 4":            func(*scene) {},
		"version 5, TDX 1.0":   func(s *scene) { s.quote.Version = 5 },
		"version 5, TDX 1.5":   func(s *scene) { s.quote.Version, s.quote.BodyType = 5, 3 },
		"no QE auth data":      func(s *scene) { s.quote.Auth = nil },
		"padded to 8000 bytes": func(s *scene) { s.quote.Padding = 3000 },
	} {
		s := newScene()
		change(s)
		if err := s.meets(t, floor.Strict, tdx.Direct); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		q, _, err := s.verify(t)
		if err != nil || q.Platform() != tdx.PlatformSim || q.Root().Intel() {
			t.Errorf("%s: platform %s, %v", name, q.Platform(), err)
		}
	}
}

// TestAttackForgedRoot: a forged hierarchy with Intel's names, brought along in the quote.
func TestAttackForgedRoot(t *testing.T) {
	t.Parallel()
	p := tdxtest.New(tdxtest.Config{})
	quote := p.Quote(tdxtest.NewQuote())
	_, err := tdx.Verify(quote, intelRoots(t), p.Day())
	wantFirst(t, err, refusal.Chain)
	_, err = tdx.Verify(quote, nil, p.Day())
	wantFirst(t, err, refusal.Chain)
	_, err = tdx.Verify(quote, []tdx.Root{{}}, p.Day())
	wantFirst(t, err, refusal.Chain)
	// Intel's root in place of the forged one, at the end of the forged chain.
	described := tdxtest.NewQuote()
	v := tdxVector(t, "tdx15-v4-uptodate")
	described.Chain = append(p.PEM(tdxtest.PCKLeaf, tdxtest.PCKCA), chainOf(t, v.quote, 2)...)
	_, err = tdx.Verify(p.Quote(described), intelRoots(t), p.Day())
	wantFirst(t, err, refusal.Chain)
}
