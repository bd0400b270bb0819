// SPDX-License-Identifier: Apache-2.0

package reference_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/reference"
	"github.com/kettle/attest/attest/refusal"
)

// TestSecondPair accepts an image that was signed twice if one of the two holds.
func TestSecondPair(t *testing.T) {
	t.Parallel()
	bad := image(1)
	bad.signer.Issuer, bad.signer2.Issuer = "https://issuer.evil.example", "https://issuer.evil.example"
	bad.signer.RunInvocation, bad.signer2.RunInvocation = "other", "other"
	r := request(t, image(1))
	i, ok := r.Trust.(instance)
	if !ok {
		t.Fatal("another trust")
	}
	r.Lines = append(bad.sign(t, i), r.Lines...)
	if _, err := reference.Verify(r); err != nil {
		t.Error(err)
	}
}

func TestIncompleteRequest(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*reference.Request){
		"trust": func(r *reference.Request) { r.Trust = nil }, "time": func(r *reference.Request) { r.At = time.Time{} },
		"image": func(r *reference.Request) { r.Files = nil }, "lines": func(r *reference.Request) { r.Lines = nil },
		"policy":                    func(r *reference.Request) { r.Policy = nil },
		"a trusted root of nothing": func(r *reference.Request) { r.Trust = (*bundle.Trust)(nil) },
		"an expired policy":         func(r *reference.Request) { r.At = now.AddDate(2, 0, 0) },
		"any image": func(r *reference.Request) {
			text := strings.Replace(rules, rules[strings.Index(rules, "  images:"):strings.Index(rules, "  lateC")], "  images: any\n  measurements: any\n", 1)
			p, err := policy.Parse([]byte(strings.Replace(text, "[snp, tdx]", "[snp]", 1)))
			if err != nil {
				t.Fatal(err)
			}
			r.Policy = p
		},
	} {
		r := request(t, image(1))
		change(&r)
		if img, err := reference.Verify(r); !errors.Is(err, refusal.ErrNotVerified) || img != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
