// SPDX-License-Identifier: Apache-2.0

package reference_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/reference"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

var (
	now    = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	signed = now.Add(-24 * time.Hour)
)

const rules = `apiVersion: kettle/v1
expires: 2027-06-01
environments:
  platforms: [snp, tdx]
  floor: strict
  revocation: required
  images:
    - issuer: https://token.actions.githubusercontent.com
      workflow: https://github.com/kettle/attest/.github/workflows/image.yml
      refs: [refs/tags/v*]
      repository: {url: https://github.com/acme/images, id: "7340312", ownerId: "583231"}
  measurements: signed
  registers:
    - {rtmr0: any, rtmr1: signed, rtmr2: signed}
  lateCompromise: none
revoked: none
`

func digest(n byte) (d binding.Digest) {
	for i := range d {
		d[i] = n
	}
	return d
}

func hex(n string, bytes int) string { return strings.Repeat(n, bytes) }

// maker is everything that says what one image is; tests change it before it is signed.
type maker struct {
	provenance *statement.ImageProvenance
	values     *statement.ReferenceValues
	signer     bundle.Signer // of the provenance
	signer2    bundle.Signer // of the reference values
}

func image(n byte) *maker {
	const san = "https://github.com/kettle/attest/.github/workflows/image.yml@refs/tags/v1"
	subjects := []statement.Subject{
		{Name: "uki.efi", Digest: statement.SHA256(digest(n))}, {Name: "vmlinuz", Digest: statement.SHA256(digest(n + 1))},
		{Name: statement.ImageManifest, Digest: statement.SHA256(digest(n + 2))},
	}
	const source, ref, run = "https://github.com/acme/images", "refs/tags/v1", "https://github.com/acme/images/actions/runs/1/attempts/1"
	s := bundle.Signer{
		Issuer: "https://token.actions.githubusercontent.com", SAN: san, SourceRepository: source, SourceRepositoryID: "7340312",
		SourceOwnerID: "583231", SourceRef: ref, SourceDigest: hex("a1", 20), BuildSignerDigest: hex("b2", 20),
		BuildConfigURI: source + "/.github/workflows/release.yml@" + ref, RunnerEnvironment: policy.HostedRunner, Trigger: "push",
		RunInvocation: run, SignedOn: signed,
	}
	snp := statement.Conditions{Platform: statement.ReferenceSNP, Boot: statement.BootDirect, VMM: "qemu", VCPUs: 2, VCPUType: "EPYC-v4", GuestFeatures: "0x1"}
	four := snp
	four.VCPUs = 4
	td := func(register, boot string) statement.Conditions {
		return statement.Conditions{Platform: statement.ReferenceTDX, Register: register, Boot: boot}
	}
	return &maker{
		provenance: &statement.ImageProvenance{
			Subjects: subjects, BuilderID: san, BuilderVersion: map[string]string{"kettle": "1.0.0"},
			External: statement.ImageParameters{
				Workflow: statement.Workflow{Ref: ref, Repository: source, Path: ".github/workflows/release.yml"},
				Image:    statement.ImageRequest{Name: "kettle", Profile: statement.ProfileStrict, Build: statement.BuildProduction}, Event: "push",
			},
			Internal: statement.ImageInternal{GitHub: statement.ImageGitHub{
				EventName: "push", RepositoryID: "7340312", RepositoryOwnerID: "583231", RunnerEnvironment: policy.HostedRunner, RunID: "1",
				RunAttempt: "1", JobWorkflowSHA: hex("b2", 20),
			}},
			Materials: []statement.ResourceDescriptor{
				{URI: "git+" + source + "@" + ref, Digest: statement.DigestSet{"gitCommit": hex("a1", 20)}},
				{Name: statement.MaterialLock, Digest: statement.SHA256(digest(20))}, {Name: statement.MaterialFirmware, Digest: statement.SHA256(digest(21))},
			},
			InvocationID: run,
		},
		values: &statement.ReferenceValues{Subjects: slices.Clone(subjects), Producer: san, Values: []statement.ReferenceValue{
			{Conditions: statement.Conditions{Component: statement.ComponentCommandLine}, Name: "command line", Key: "sha256", Value: binding.Sum([]byte("quiet")).String()},
			{Conditions: statement.Conditions{Component: statement.ComponentRootHash}, Name: "root hash", Key: "sha256", Value: digest(n + 3).String()},
			{Conditions: statement.Conditions{Component: statement.ComponentKettled}, Name: "kettled", Key: "sha256", Value: digest(n + 4).String()},
			{Conditions: snp, Name: "launch", Key: statement.KeySNPMeasurement, Value: hex("d1", 48)},
			{Conditions: four, Name: "launch", Key: statement.KeySNPMeasurement, Value: hex("d2", 48)},
			{Conditions: td("mrtd", ""), Name: "MRTD", Key: statement.KeyTDXMRTD, Value: hex("e1", 48)},
			{Conditions: td("rtmr1", statement.BootDirect), Name: "RTMR1", Key: statement.KeyTDXRTMR + "1", Value: hex("e2", 48)},
			{Conditions: td("rtmr2", statement.BootDirect), Name: "RTMR2", Key: statement.KeyTDXRTMR + "2", Value: hex("e3", 48)},
			{Conditions: td("rtmr1", statement.BootUKI), Name: "RTMR1", Key: statement.KeyTDXRTMR + "1", Value: hex("e4", 48)},
			{Conditions: td("rtmr2", statement.BootUKI), Name: "RTMR2", Key: statement.KeyTDXRTMR + "2", Value: hex("e5", 48)},
			{Conditions: statement.Conditions{Platform: statement.ReferenceSim}, Name: "launch", Key: statement.KeySimMeasurement, Value: hex("d3", 48)},
			{Conditions: statement.Conditions{Platform: statement.ReferenceTPM, Register: "pcr4"}, Name: "PCR 4", Key: statement.KeyTPMPCR + "4", Value: hex("f1", 32)},
			{Conditions: statement.Conditions{Platform: statement.ReferenceTPM, Register: "pcr9"}, Name: "PCR 9", Key: statement.KeyTPMPCR + "9", Value: hex("f2", 32)},
			{Conditions: statement.Conditions{Platform: statement.ReferenceTPM, Register: "pcr11"}, Name: "PCR 11", Key: statement.KeyTPMPCR + "11", Value: hex("f3", 32)},
			{Conditions: statement.Conditions{Platform: statement.ReferenceTPM, Register: "pcr12"}, Name: "PCR 12", Key: statement.KeyTPMPCR + "12", Value: hex("f4", 32)},
		}},
		signer: s, signer2: s,
	}
}

// instance is a Sigstore instance in memory: it knows who signed which line.
type instance map[string]bundle.Signer

var errNobody = &refusal.Refusal{Link: "signature", Code: refusal.Signature, Want: "a signature", Got: "none", Next: "take another one"}

func (i instance) Verify(line []byte) ([]byte, bundle.Signer, error) {
	s, ok := i[string(line)]
	if !ok {
		return nil, bundle.Signer{}, errNobody
	}
	var b struct {
		Envelope struct {
			Payload []byte `json:"payload"`
		} `json:"dsseEnvelope"`
	}
	if err := json.Unmarshal(line, &b); err != nil {
		return nil, bundle.Signer{}, err
	}
	return b.Envelope.Payload, s, nil
}

// twoReaders reads another payload out of one line than its caller did.
type twoReaders struct {
	instance
	line, as []byte
}

func (r twoReaders) Verify(line []byte) ([]byte, bundle.Signer, error) {
	if string(line) == string(r.line) {
		return r.instance.Verify(r.as)
	}
	return r.instance.Verify(line)
}

// sign makes a line that the instance knows.
func (i instance) sign(t testing.TB, payload []byte, s bundle.Signer) []byte {
	t.Helper()
	line, err := json.Marshal(map[string]any{"mediaType": bundle.MediaType, "dsseEnvelope": map[string]any{"payload": payload}, "by": s.RunInvocation})
	if err != nil {
		t.Fatal(err)
	}
	i[string(line)] = s
	return line
}

// sign gives the two lines of an image.
func (m *maker) sign(t testing.TB, i instance) [][]byte {
	t.Helper()
	p, err := m.provenance.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	v, err := m.values.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{i.sign(t, v, m.signer2), i.sign(t, p, m.signer)}
}

func parsePolicy(t testing.TB, changes ...string) *policy.Policy {
	t.Helper()
	text := rules
	for i := 0; i+1 < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			t.Fatalf("%q is not in the policy", changes[i])
		}
		text = strings.Replace(text, changes[i], changes[i+1], 1)
	}
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// request verifies the image whose files start at 1, with lines of that image and of two others.
func request(t testing.TB, m *maker) reference.Request {
	t.Helper()
	i := instance{}
	lines := image(50).sign(t, i)
	lines = append(lines, []byte(`{"any":"line"}`), []byte("garbage"), []byte(`{"mediaType":"`+bundle.MediaType+`"}`))
	lines = append(lines, m.sign(t, i)...)
	lines = append(lines, image(80).sign(t, i)...)
	return reference.Request{Lines: lines, Trust: i, Policy: parsePolicy(t), At: now, Files: []binding.Digest{digest(1), digest(3)}}
}

func booted(platform string) *reference.Booted {
	b := &reference.Booted{Environment: policy.Environment{Platform: platform, Registers: map[string]string{}}}
	set := func(first byte) {
		for i := range b.Environment.Measurement {
			b.Environment.Measurement[i] = first
		}
	}
	switch platform {
	case "snp":
		set(0xd2)
		b.VCPUs, b.VCPUType = 4, "EPYC-v4"
	case "sim":
		set(0xd3)
	case "tdx":
		set(0xe1)
		b.Environment.Registers = map[string]string{"rtmr0": hex("01", 48), "rtmr1": hex("e4", 48), "rtmr2": hex("e5", 48), "rtmr3": hex("02", 48)}
	default:
		b.Environment.Registers = map[string]string{"pcr4": hex("f1", 32), "pcr9": hex("f2", 32), "pcr11": hex("f3", 32), "pcr12": hex("f4", 32)}
	}
	return b
}

func TestVerify(t *testing.T) {
	t.Parallel()
	img, err := reference.Verify(request(t, image(1)))
	if err != nil {
		t.Fatal(err)
	}
	if got := img.Digests(); !slices.Equal(got, []binding.Digest{digest(1), digest(2), digest(3)}) {
		t.Errorf("digests %v", got)
	}
	if img.BuildLevel() != 3 || len(img.Inputs()) != 2 || img.Match() != nil || !img.SignedOn().Equal(signed) || len(img.Subjects()) != 3 {
		t.Errorf("level %d, inputs %v, match %v, signed %v", img.BuildLevel(), img.Inputs(), img.Match(), img.SignedOn())
	}
	if img.Provenance().External.Image.Name != "kettle" || len(img.Values().Values) != 15 || img.Signer().RunInvocation == "" {
		t.Error("the statements are not those that were verified")
	}
	for name, in := range img.Inputs() {
		if _, ok := in.Digest.SHA256(); !ok {
			t.Errorf("input %d has no digest", name)
		}
	}
	for level, change := range map[int]func(*maker){
		2: func(m *maker) {
			m.signer.BuildConfigURI = "https://github.com/acme/images/.github/workflows/image.yml@refs/tags/v1"
			m.signer.SAN = m.signer.BuildConfigURI
			m.provenance.External.Workflow.Path = ".github/workflows/image.yml"
			m.provenance.BuilderID, m.values.Producer = m.signer.SAN, m.signer.SAN
			m.signer2 = m.signer
		},
		1: func(m *maker) {
			m.signer.RunnerEnvironment, m.provenance.Internal.GitHub.RunnerEnvironment = "self-hosted", "self-hosted"
			m.signer2 = m.signer
		},
	} {
		m := image(1)
		change(m)
		r := request(t, m)
		r.Policy = parsePolicy(t, "github.com/kettle/attest/.github", "github.com/*/*/.github", "      refs:", "      runner: any\n      refs:")
		img, err := reference.Verify(r)
		if err != nil {
			t.Fatalf("level %d: %v", level, err)
		}
		if img.BuildLevel() != level {
			t.Errorf("level %d instead of %d", img.BuildLevel(), level)
		}
	}
}

// TestBooted finds the image of a machine without a file of it, on every platform.
func TestBooted(t *testing.T) {
	t.Parallel()
	for platform, want := range map[string][]string{
		"snp": {"measurement"}, "sim": {"measurement"}, "tdx": {"measurement", "rtmr1", "rtmr2"},
		"az-snp": {"pcr4", "pcr9", "pcr11", "pcr12"}, "vtpm": {"pcr4", "pcr9", "pcr11", "pcr12"},
	} {
		r := request(t, image(1))
		r.Files, r.Booted = nil, booted(platform)
		r.Booted.CommandLine = []byte("quiet")
		r.Booted.Components = map[string]binding.Digest{statement.ComponentKettled: digest(5)}
		img, err := reference.Verify(r)
		if err != nil {
			t.Errorf("%s: %v", platform, err)
			continue
		}
		m := img.Match()
		if !slices.Equal(m.Signed(), want) || len(m.Values()) != len(want) || !slices.Equal(m.Compared(), []string{"command-line", "kettled"}) ||
			!slices.Equal(m.NotCompared(), []string{"root-hash"}) || img.Digests()[0] != digest(1) {
			t.Errorf("%s: %v %v %v", platform, m.Signed(), m.Compared(), m.NotCompared())
		}
	}
}

// wants checks that a refusal has this link and code.
func wants(t *testing.T, name string, err error, link string, code refusal.Code) {
	t.Helper()
	for _, r := range refusal.All(err) {
		if r.Link == link && r.Code == code && r.Next != "" {
			return
		}
	}
	t.Errorf("%s: want %s (%s), got %v", name, link, code, err)
}

// TestAttackImageStatements presents statements that are well signed and not those of this image, this signer or this
// state of things.
func TestAttackImageStatements(t *testing.T) {
	t.Parallel()
	both := func(change func(*bundle.Signer)) func(*maker) {
		return func(m *maker) { change(&m.signer); change(&m.signer2) }
	}
	const p, v = reference.LinkProvenance, reference.LinkValues
	for name, tc := range map[string]struct {
		change func(*maker)
		link   string
		code   refusal.Code
	}{
		"another workflow": {both(func(s *bundle.Signer) { s.SAN = strings.Replace(s.SAN, "image.yml", "test.yml", 1) }), p, refusal.Identity},
		"a branch":         {both(func(s *bundle.Signer) { s.SAN = strings.Replace(s.SAN, "refs/tags/v1", "refs/heads/main", 1) }), p, refusal.Identity},
		"another issuer":   {both(func(s *bundle.Signer) { s.Issuer = "https://issuer.evil.example" }), p, refusal.Identity},
		"a fork": {func(m *maker) {
			both(func(s *bundle.Signer) {
				s.SourceRepository, s.SourceRepositoryID, s.SourceOwnerID = "https://github.com/mallory/images", "99", "98"
				s.BuildConfigURI = strings.Replace(s.BuildConfigURI, "acme", "mallory", 1)
			})(m)
			m.provenance.External.Workflow.Repository = "https://github.com/mallory/images"
			m.provenance.Materials[0].URI = "git+https://github.com/mallory/images@refs/tags/v1"
			m.provenance.Internal.GitHub.RepositoryID, m.provenance.Internal.GitHub.RepositoryOwnerID = "99", "98"
		}, p, refusal.Identity},
		"a machine of somebody's": {func(m *maker) {
			both(func(s *bundle.Signer) { s.RunnerEnvironment = "self-hosted" })(m)
			m.provenance.Internal.GitHub.RunnerEnvironment = "self-hosted"
		}, p, refusal.Identity},
		"values by another workflow": {func(m *maker) { m.signer2.SAN = strings.Replace(m.signer2.SAN, "image.yml", "test.yml", 1) }, v, refusal.Identity},
		"values by another run":      {func(m *maker) { m.signer2.RunInvocation += "1" }, v, refusal.Identity},
		"values of another commit":   {func(m *maker) { m.signer2.SourceDigest = hex("a2", 20) }, v, refusal.Identity},
		"another builder":            {func(m *maker) { m.provenance.BuilderID = strings.Replace(m.provenance.BuilderID, "v1", "v2", 1) }, p, refusal.Identity},
		"another producer":           {func(m *maker) { m.values.Producer = strings.Replace(m.values.Producer, "v1", "v2", 1) }, v, refusal.Identity},
		"another repository said":    {func(m *maker) { m.provenance.External.Workflow.Repository = "https://github.com/acme/other" }, p, refusal.Identity},
		"another ref said":           {func(m *maker) { m.provenance.External.Workflow.Ref = "refs/tags/v2" }, p, refusal.Identity},
		"another path said":          {func(m *maker) { m.provenance.External.Workflow.Path = ".github/workflows/x.yml" }, p, refusal.Identity},
		"another source said":        {func(m *maker) { m.provenance.Materials[0].URI = "git+https://github.com/acme/other@refs/tags/v1" }, p, refusal.Identity},
		"another commit said":        {func(m *maker) { m.provenance.Materials[0].Digest["gitCommit"] = hex("a2", 20) }, p, refusal.Identity},
		"another number said":        {func(m *maker) { m.provenance.Internal.GitHub.RepositoryID = "1" }, p, refusal.Identity},
		"another owner said":         {func(m *maker) { m.provenance.Internal.GitHub.RepositoryOwnerID = "1" }, p, refusal.Identity},
		"another runner said":        {func(m *maker) { m.provenance.Internal.GitHub.RunnerEnvironment = "self-hosted" }, p, refusal.Identity},
		"another event said": {func(m *maker) {
			m.provenance.External.Event, m.provenance.Internal.GitHub.EventName = "schedule", "schedule"
		}, p, refusal.Identity},
		"another signing commit said":  {func(m *maker) { m.provenance.Internal.GitHub.JobWorkflowSHA = hex("b3", 20) }, p, refusal.Identity},
		"another run said":             {func(m *maker) { m.provenance.InvocationID += "1" }, p, refusal.Identity},
		"a certificate that says less": {both(func(s *bundle.Signer) { s.BuildSignerDigest = "" }), p, refusal.Identity},
		"a debug build":                {func(m *maker) { m.provenance.External.Image.Build = statement.BuildDebug }, p, refusal.Debug},
		"signed tomorrow":              {both(func(s *bundle.Signer) { s.SignedOn = now.Add(24 * time.Hour) }), p, refusal.Expired},
		"values signed tomorrow":       {func(m *maker) { m.signer2.SignedOn = now.Add(24 * time.Hour) }, p, refusal.Expired},
		"signed at no time":            {both(func(s *bundle.Signer) { s.SignedOn = time.Time{} }), p, refusal.Missing},
		"other subjects of the values": {func(m *maker) {
			m.values.Subjects[1].Digest = statement.SHA256(digest(99))
		}, v, refusal.Binding},
		"one subject more": {func(m *maker) {
			m.values.Subjects = append(m.values.Subjects, statement.Subject{Name: "x", Digest: statement.SHA256(digest(99))})
		}, v, refusal.Binding},
		"values of another image":     {func(m *maker) { m.values.Subjects = image(90).values.Subjects }, v, refusal.Binding},
		"provenance of another image": {func(m *maker) { m.provenance.Subjects = image(90).provenance.Subjects }, p, refusal.Binding},
	} {
		m := image(1)
		tc.change(m)
		img, err := reference.Verify(request(t, m))
		if err == nil || img != nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		wants(t, name, err, tc.link, tc.code)
	}
}

// TestAttackImageRevoked launches an older image that was withdrawn: any of its files names it.
func TestAttackImageRevoked(t *testing.T) {
	t.Parallel()
	for _, file := range []binding.Digest{digest(1), digest(2), digest(3)} {
		r := request(t, image(1))
		r.Policy = parsePolicy(t, "revoked: none", "revoked: {images: ["+file.String()+"], keys: none, chips: none}")
		_, err := reference.Verify(r)
		wants(t, file.String(), err, reference.LinkProvenance, refusal.Revoked)
	}
}

// TestAttackImageUnsigned changes what was signed, or leaves it out.
func TestAttackImageUnsigned(t *testing.T) {
	t.Parallel()
	i := instance{}
	lines := image(1).sign(t, i)
	files := []binding.Digest{digest(1)}
	for name, tc := range map[string]struct {
		lines [][]byte
		link  string
		code  refusal.Code
	}{
		"no provenance":      {lines[:1], reference.LinkProvenance, refusal.Missing},
		"no values":          {lines[1:], reference.LinkValues, refusal.Missing},
		"nothing":            {nil, reference.LinkProvenance, refusal.Missing},
		"forged provenance":  {[][]byte{lines[0], append(slices.Clone(lines[1]), ' ')}, reference.LinkProvenance, refusal.Signature},
		"forged values":      {[][]byte{append(slices.Clone(lines[0]), ' '), lines[1]}, reference.LinkValues, refusal.Signature},
		"a line that is not": {[][]byte{lines[0], []byte("{}")}, reference.LinkProvenance, refusal.Missing},
	} {
		_, err := reference.Verify(reference.Request{Lines: tc.lines, Trust: i, Policy: parsePolicy(t), At: now, Files: files})
		wants(t, name, err, tc.link, tc.code)
	}
	_, err := reference.Verify(reference.Request{Lines: lines, Trust: twoReaders{i, lines[1], image(50).sign(t, i)[1]}, Policy: parsePolicy(t), At: now, Files: files})
	wants(t, "a line with two readings", err, reference.LinkProvenance, refusal.Malformed)
	r := request(t, image(1))
	r.Files = []binding.Digest{digest(1), digest(200)}
	_, err = reference.Verify(r)
	wants(t, "a file that nobody signed", err, reference.LinkProvenance, refusal.Binding)
	r.Files = []binding.Digest{digest(1), digest(51)} // of two images
	_, err = reference.Verify(r)
	wants(t, "files of two images", err, reference.LinkProvenance, refusal.Binding)
}
