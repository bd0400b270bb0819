// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
)

// operatorKeys is the list of who admits; nobody has the private key.
const operatorKeys = `    keys:
      - |
        -----BEGIN PUBLIC KEY-----
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0I4pUVOEIOo8Iz88IXudkLSGlUdN
        xuXHbEaDZrBEJbW0rOKWvOrrclHuSlSn8GGh7B9dvsPwAVN8+hUWqp47fw==
        -----END PUBLIC KEY-----
`

const signedText = `apiVersion: kettle/v1
expires: 2027-06-01
environments:
  platforms: [snp, tdx]
  floor: strict
  revocation: required
  images:
    - issuer: https://token.actions.githubusercontent.com
      workflow: https://github.com/acme/images/.github/workflows/image.yml
      refs: [refs/tags/v*]
      repository: {url: https://github.com/acme/images, id: "7340312", ownerId: "583231"}
  measurements: signed
  registers:
    - {rtmr0: any, rtmr1: signed, rtmr2: signed}
  lateCompromise: [token, admission]
  admission:
` + operatorKeys + `revoked:
  images: ["1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d"]
  keys: ["2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d"]
  chips: ["09` + "00000000000000000000000000000000000000000000000000000000000000" + `0000000000000000000000000000000000000000000000000000000000000000"]
`

// changed gives signedText with text replaced, which has to be there.
func changed(changes ...string) string {
	text := signedText
	for i := 0; i+1 < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			panic(changes[i])
		}
		text = strings.Replace(text, changes[i], changes[i+1], 1)
	}
	return text
}

func imageSigner() ImageSigner {
	return ImageSigner{
		Issuer:     "https://token.actions.githubusercontent.com",
		Workflow:   "https://github.com/acme/images/.github/workflows/image.yml@refs/tags/v1.2",
		Repository: "https://github.com/acme/images", RepositoryID: "7340312", OwnerID: "583231", SourceRef: "refs/tags/v1.2",
		RunnerEnvironment: HostedRunner,
	}
}

func signedEnvironment(platform string) Environment {
	e := environment()
	e.Platform, e.Signed = platform, []string{SignedMeasurement}
	if platform == "tdx" {
		e.Registers = map[string]string{"rtmr0": strings.Repeat("1", 96), "rtmr1": strings.Repeat("2", 96), "rtmr2": strings.Repeat("3", 96)}
		e.Signed = []string{SignedMeasurement, "rtmr1", "rtmr2"}
	}
	return e
}

// TestAttackImageSigner lets others sign an image, each in one thing another: another workflow, branch, issuer, a fork.
func TestAttackImageSigner(t *testing.T) {
	t.Parallel()
	if err := parse(t, signedText).Environments().AllowImage(imageSigner(), now); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		field  string
		change func(*ImageSigner)
	}{
		"another issuer":              {"issuer", func(s *ImageSigner) { s.Issuer = "https://token.actions.githubusercontent.com.evil.example" }},
		"no issuer":                   {"issuer", func(s *ImageSigner) { s.Issuer = "" }},
		"another workflow":            {"workflow", func(s *ImageSigner) { s.Workflow = strings.Replace(s.Workflow, "image.yml", "test.yml", 1) }},
		"a workflow that begins so":   {"workflow", func(s *ImageSigner) { s.Workflow = strings.Replace(s.Workflow, "image.yml", "image.yml.yml", 1) }},
		"a workflow of a fork":        {"workflow", func(s *ImageSigner) { s.Workflow = strings.Replace(s.Workflow, "acme", "mallory", 1) }},
		"no workflow":                 {"workflow", func(s *ImageSigner) { s.Workflow = "@refs/tags/v1.2" }},
		"a branch":                    {"refs", func(s *ImageSigner) { s.Workflow = strings.Replace(s.Workflow, "tags/v1.2", "heads/v1", 1) }},
		"no ref":                      {"refs", func(s *ImageSigner) { s.Workflow, _, _ = strings.Cut(s.Workflow, "@") }},
		"a tag below":                 {"refs", func(s *ImageSigner) { s.Workflow += "/evil" }},
		"a file named like a ref":     {"refs", func(s *ImageSigner) { s.Workflow = strings.Replace(s.Workflow, "@", "@v1.yml@", 1) }},
		"a branch that was built":     {"sourceRefs", func(s *ImageSigner) { s.SourceRef = "refs/heads/evil" }},
		"a proposal that was built":   {"sourceRefs", func(s *ImageSigner) { s.SourceRef = "refs/pull/7/merge" }},
		"nothing that was built":      {"sourceRefs", func(s *ImageSigner) { s.SourceRef = "" }},
		"a fork":                      {"repository.url", func(s *ImageSigner) { s.Repository = "https://github.com/mallory/images" }},
		"no repository":               {"repository.url", func(s *ImageSigner) { s.Repository = "" }},
		"the name given to another":   {"repository.id", func(s *ImageSigner) { s.RepositoryID = "99" }},
		"no number":                   {"repository.id", func(s *ImageSigner) { s.RepositoryID = "" }},
		"the owner's name, another's": {"repository.ownerId", func(s *ImageSigner) { s.OwnerID = "99" }},
		"no owner":                    {"repository.ownerId", func(s *ImageSigner) { s.OwnerID = "" }},
		"a machine of somebody's":     {"runner", func(s *ImageSigner) { s.RunnerEnvironment = "self-hosted" }},
		"a machine of nobody's":       {"runner", func(s *ImageSigner) { s.RunnerEnvironment = "" }},
	} {
		who := imageSigner()
		tc.change(&who)
		err := parse(t, signedText).Environments().AllowImage(who, now)
		all := refusal.All(err)
		if len(all) != 1 || all[0].Code != refusal.Identity || !strings.Contains(all[0].Want, "environments.images[0]."+tc.field) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestImageSignerOpen reads the fields that a policy can open, and shows each in Open.
func TestImageSignerOpen(t *testing.T) {
	t.Parallel()
	who := imageSigner()
	who.SourceRef, who.RunnerEnvironment = "refs/heads/main", "self-hosted"
	p := parse(t, changed("      refs: [refs/tags/v*]\n", "      refs: any\n      sourceRefs: [refs/heads/main]\n      runner: any\n",
		`id: "7340312"`, "id: any"))
	if err := p.Environments().AllowImage(who, now); err != nil {
		t.Error(err)
	}
	for _, open := range []string{"environments.images[0].refs: any", "environments.images[0].runner: any", "environments.images[0].repository.id: any"} {
		if !slices.Contains(p.Open(), open) {
			t.Errorf("%s is not among %q", open, p.Open())
		}
	}
	second := `    - issuer: https://token.actions.githubusercontent.com
      workflow: https://github.com/acme/others/.github/workflows/*.yml
      refs: any
      repository: {url: https://github.com/acme/*, id: any, ownerId: "583231"}
`
	two := parse(t, changed("  measurements: signed\n", second+"  measurements: signed\n"))
	other := imageSigner()
	other.Workflow = "https://github.com/acme/others/.github/workflows/x.yml@refs/heads/main"
	if err := two.Environments().AllowImage(other, now); err != nil {
		t.Error(err)
	}
	other.OwnerID = "99"
	if all := refusal.All(two.Environments().AllowImage(other, now)); len(all) != 1 || !strings.Contains(all[0].Want, "images[1].repository.ownerId") {
		t.Errorf("the nearest entry is not the one that is told: %v", all)
	}
	for name, text := range map[string]string{"any": whole, "no section": "apiVersion: kettle/v1\nexpires: never\n"} {
		if err := parse(t, text).Environments().AllowImage(imageSigner(), now); !errors.Is(err, refusal.ErrPolicy) {
			t.Errorf("%s accepts a signer: %v", name, err)
		}
	}
	if yes, err := p.Environments().VerifiesImages(now); err != nil || !yes {
		t.Errorf("verifies images: %v, %v", yes, err)
	}
	if yes, err := parse(t, whole).Environments().VerifiesImages(now); err != nil || yes {
		t.Errorf("any verifies images: %v, %v", yes, err)
	}
	if _, err := parse(t, "apiVersion: kettle/v1\nexpires: never\n").Environments().VerifiesImages(now); !errors.Is(err, refusal.ErrPolicy) {
		t.Errorf("no section verifies images: %v", err)
	}
}

// TestAttackUnsignedMachine shows quotes whose image nobody verified, or whose values are only in part the image's, to a
// policy that leaves the measurement to signed reference values.
func TestAttackUnsignedMachine(t *testing.T) {
	t.Parallel()
	p := parse(t, signedText)
	for _, platform := range []string{"snp", "tdx"} {
		if err := p.Environments().Allow(signedEnvironment(platform), now); err != nil {
			t.Fatalf("%s: %v", platform, err)
		}
	}
	for name, tc := range map[string]struct {
		platform string
		signed   []string
	}{
		"no image":                {"snp", nil},
		"another's register":      {"snp", []string{"pcr4"}},
		"no image on TDX":         {"tdx", nil},
		"the firmware alone":      {"tdx", []string{SignedMeasurement}},
		"no command line":         {"tdx", []string{SignedMeasurement, "rtmr1"}},
		"no firmware":             {"tdx", []string{"rtmr1", "rtmr2"}},
		"a register by half name": {"tdx", []string{SignedMeasurement, "rtmr1", "rtmr"}},
	} {
		e := signedEnvironment(tc.platform)
		e.Signed = tc.signed
		if err := p.Environments().Allow(e, now); !errors.Is(err, refusal.ErrMeasurement) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// With a list of measurements the image still has to be one of those accepted.
	listed := parse(t, changed("measurements: signed", `measurements: ["`+strings.Repeat("1", 96)+`"]`))
	e := signedEnvironment("snp")
	if err := listed.Environments().Allow(e, now); err != nil {
		t.Error(err)
	}
	e.Signed = nil
	if err := listed.Environments().Allow(e, now); !errors.Is(err, refusal.ErrMeasurement) {
		t.Errorf("a listed measurement of no image: %v", err)
	}
	e = signedEnvironment("snp")
	e.Measurement[0]++
	if err := listed.Environments().Allow(e, now); !errors.Is(err, refusal.ErrMeasurement) {
		t.Errorf("a signed measurement that the list does not name: %v", err)
	}
}

// TestAttackRevoked presents what was withdrawn.
func TestAttackRevoked(t *testing.T) {
	t.Parallel()
	digest := func(n byte) (d binding.Digest) {
		for i := range d {
			d[i] = n
		}
		return d
	}
	p := parse(t, signedText)
	fine := Names{Images: []binding.Digest{digest(1), digest(2)}, Keys: []binding.Digest{digest(3)}, Chip: [64]byte{8}}
	if err := p.Revoked().Allow(fine, now); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]Names{
		"image":       {Images: []binding.Digest{digest(1), digest(0x1d)}},
		"key":         {Keys: []binding.Digest{digest(3), digest(0x2d)}},
		"chip":        {Chip: [64]byte{9}},
		"all of them": {Images: []binding.Digest{digest(0x1d)}, Keys: []binding.Digest{digest(0x2d)}, Chip: [64]byte{9}},
	} {
		if err := p.Revoked().Allow(n, now); !errors.Is(err, refusal.ErrRevoked) {
			t.Errorf("%s: %v", name, err)
		}
	}
	e := signedEnvironment("snp")
	e.ChipID = [64]byte{9}
	if err := p.Environments().Allow(e, now); !errors.Is(err, refusal.ErrRevoked) {
		t.Errorf("a machine on a revoked chip: %v", err)
	}
	none := parse(t, whole)
	if err := none.Revoked().Allow(Names{Images: []binding.Digest{digest(0x1d)}, Chip: [64]byte{9}}, now); err != nil {
		t.Errorf("nothing is revoked: %v", err)
	}
	if err := parse(t, "apiVersion: kettle/v1\nexpires: never\n").Revoked().Allow(fine, now); !errors.Is(err, refusal.ErrPolicy) {
		t.Errorf("no section: %v", err)
	}
	late := now.AddDate(2, 0, 0)
	if err := p.Revoked().Allow(fine, late); !errors.Is(err, refusal.ErrPolicy) {
		t.Errorf("an expired policy: %v", err)
	}
}

func publicKey(t *testing.T, curve elliptic.Curve) (pemText string, spki []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if spki, err = x509.MarshalPKIXPublicKey(&key.PublicKey); err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})), spki
}

func TestAdmissionKeys(t *testing.T) {
	t.Parallel()
	text, spki := publicKey(t, elliptic.P256())
	block := operatorKeys + "      - |\n        " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n        ") + "\n"
	keys, err := parse(t, changed(operatorKeys, block)).Environments().AdmissionKeys(now)
	if err != nil || len(keys) != 2 {
		t.Fatalf("%v, %v", keys, err)
	}
	if keys[0].Digest != binding.Sum(keys[0].SPKI) || !bytes.Equal(keys[1].SPKI, spki) || keys[1].Digest != binding.Sum(spki) {
		t.Errorf("got %v", keys)
	}
	if keys, err := parse(t, whole).Environments().AdmissionKeys(now); err != nil || len(keys) != 0 {
		t.Errorf("admission that nobody asked for: %v, %v", keys, err)
	}
	if got, err := parse(t, signedText).Environments().Requires(now); err != nil || !slices.Contains(got, Admission) {
		t.Errorf("requires %v, %v", got, err)
	}
	big, _ := publicKey(t, elliptic.P384())
	twice := fmt.Sprintf("%q, %q", text, text)
	for name, list := range map[string]string{
		"a digest": `"sha256:` + binding.Sum(spki).String() + `"`, "text": "operator", "P-384": fmt.Sprintf("%q", big), "two blocks": fmt.Sprintf("%q", text+text),
		"private": fmt.Sprintf("%q", strings.ReplaceAll(text, "PUBLIC", "PRIVATE")), "broken": fmt.Sprintf("%q", strings.Replace(text, "MFkw", "MFkx", 1)),
		"one key twice": twice, "any": "any",
	} {
		if _, err := Parse([]byte(changed(operatorKeys, "    keys: ["+list+"]\n"))); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestImagesParseRefuses(t *testing.T) {
	t.Parallel()
	const workflow, url = "workflow: https://github.com/acme/images/.github/workflows/image.yml", "url: https://github.com/acme/images"
	for name, tc := range map[string]struct{ text, want string }{
		"no images":             {strings.Replace(whole, "  images: any\n", "", 1), "environments.images is missing"},
		"another word":          {strings.Replace(whole, "images: any", "images: all", 1), "environments.images"},
		"none":                  {strings.Replace(whole, "images: any", "images: none", 1), "environments.images"},
		"empty":                 {strings.Replace(whole, "images: any", "images: []", 1), "images is empty"},
		"a mapping":             {strings.Replace(whole, "images: any", "images: {issuer: x}", 1), "want a list"},
		"a text":                {strings.Replace(whole, "images: any", "images: [acme]", 1), "want keys and values"},
		"unknown key":           {changed("refs: [refs/tags/v*]", "refs: [refs/tags/v*]\n      ref: any"), "unknown or repeated"},
		"repeated key":          {changed("refs: [refs/tags/v*]", "refs: [refs/tags/v*]\n      refs: any"), "refs"},
		"no issuer":             {changed("issuer: https://token.actions.githubusercontent.com\n      ", ""), "issuer: want the exact issuer"},
		"issuer glob":           {changed("https://token.actions", "https://*.actions"), "issuer: want the exact issuer"},
		"issuer over http":      {changed("issuer: https", "issuer: http"), "issuer: want the exact issuer"},
		"no workflow":           {changed(workflow+"\n      ", ""), "workflow: want https://"},
		"workflow with ref":     {changed(workflow, workflow+"@refs/tags/v1"), "its ref belongs into refs"},
		"workflow on any host":  {changed(workflow, "workflow: https://*/x/y.yml"), "the server has to be written out"},
		"no refs":               {changed("      refs: [refs/tags/v*]\n", ""), "refs is missing"},
		"refs as regexp":        {changed("refs/tags/v*", "'^refs/tags/v'"), "not allowed"},
		"no repository":         {changed(`      repository: {`+url+`, id: "7340312", ownerId: "583231"}`+"\n", ""), "repository.url"},
		"repository as text":    {changed(`{`+url+`, id: "7340312", ownerId: "583231"}`, "acme/images"), "want keys and values"},
		"no id":                 {changed(`id: "7340312", `, ""), "numeric id"},
		"no ids":                {changed(`id: "7340312", ownerId: "583231"`, "id: any, ownerId: any"), "cannot both be any"},
		"unknown repo key":      {changed(`id: "7340312"`, "name: x"), "unknown or repeated"},
		"runner":                {changed("refs: [refs/tags/v*]", "refs: [refs/tags/v*]\n      runner: hosted"), "runner: want github-hosted"},
		"source refs":           {changed("refs: [refs/tags/v*]", "refs: [refs/tags/v*]\n      sourceRefs: []"), "sourceRefs is empty"},
		"signed by nobody":      {strings.Replace(whole, "measurements:\n    - \""+strings.Repeat("1", 96)+"\"", "measurements: signed", 1), "signed needs environments.images"},
		"signed register":       {strings.Replace(measured(), "rtmr0: any", "rtmr0: signed", 1), "signed needs environments.images"},
		"signed in a list":      {changed("measurements: signed", "measurements: [signed]"), "lower-case"},
		"no revoked":            {strings.Replace(whole, "revoked: none\n", "", 1), "revoked is missing"},
		"revoked any":           {strings.Replace(whole, "revoked: none", "revoked: any", 1), "revoked: want"},
		"revoked in part":       {strings.Replace(whole, "revoked: none", "revoked: {images: none, keys: none}", 1), "revoked.chips is missing"},
		"revoked empty":         {strings.Replace(whole, "revoked: none", "revoked: {images: [], keys: none, chips: none}", 1), "revoked.images is empty"},
		"revoked unknown":       {strings.Replace(whole, "revoked: none", "revoked: {image: none, keys: none, chips: none}", 1), "unknown or repeated"},
		"revoked, a short one":  {strings.Replace(whole, "revoked: none", "revoked: {images: [aa], keys: none, chips: none}", 1), "64 lower-case"},
		"revoked, a prefix":     {strings.Replace(whole, "revoked: none", `revoked: {images: ["sha256:`+strings.Repeat("4b", 32)+`"], keys: none, chips: none}`, 1), "64 lower-case"},
		"admission, no keys":    {changed("  admission:\n"+operatorKeys, ""), "environments.admission is missing"},
		"admission for nothing": {changed("[token, admission]", "[token]"), "nothing looks at it"},
		"admission as list":     {changed("  admission:\n"+operatorKeys, "  admission: [x]\n"), "want keys and values"},
		"admission empty":       {changed(operatorKeys, "    keys: []\n"), "keys is empty"},
		"admission unknown":     {changed("    keys:", "    key:"), "unknown or repeated"},
	} {
		p, err := Parse([]byte(tc.text))
		if !errors.Is(err, ErrInvalid) || p != nil {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v\ndoes not say %q", name, err, tc.want)
		}
	}
}
