// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp/snptest"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/dispatch/admission"
	"github.com/kettle/attest/dispatch/admission/admissiontest"
	"github.com/kettle/attest/internal/secret"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// guest is a guest on a machine whose certificate and keys all guests share, so that a thousand of them cost little. Its
// register is HOST_DATA, as a simulator's.
type guest struct {
	t   testing.TB
	m   *snptest.Machine
	pem []byte
	mu  sync.Mutex
	reg [32]byte
}

// hardware is what all guests share.
type hardware struct{ leaf, roots []byte }

func newHardware(t testing.TB) hardware {
	t.Helper()
	m := snptest.New("Milan", "VCEK")
	return hardware{snptest.PEM(m.LeafDER(t)), m.RootsPEM(t)}
}

func (h hardware) guest(t testing.TB, change func(report []byte)) *guest {
	t.Helper()
	g := &guest{t: t, m: snptest.New("Milan", "VCEK"), pem: h.leaf}
	_, err := rand.Read(g.m.Report[0x140:0x160])
	must(t, err)
	g.m.SetMeasurement(attesttest.LaunchDigest())
	if change != nil {
		change(g.m.Report)
	}
	return g
}

func (g *guest) Report(data [64]byte) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.m.SetReportData(data)
	copy(g.m.Report[0xc0:], g.reg[:])
	return g.m.Signed(g.t), nil
}

func (g *guest) Extend(d [32]byte) [32]byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reg = sha256.Sum256(append(g.reg[:], d[:]...))
	return g.reg
}

func (g *guest) Endorsements() []byte { return g.pem }

// issuer counts what it makes, and makes it without a network.
type issuer struct {
	mu     sync.Mutex
	fail   error
	issued int
	before func()
}

const releasedToken = "ghs_released"

func (i *issuer) Issue(context.Context) (wire.Credential, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.before != nil {
		i.before()
	}
	if i.fail != nil {
		return wire.Credential{}, i.fail
	}
	i.issued++
	return wire.Credential{Token: secret.New(releasedToken), Expires: attesttest.Now().Add(time.Hour)}, nil
}

// gate is a server and what is around it.
type gate struct {
	t      testing.TB
	hw     hardware
	dir    string
	now    func() time.Time
	key    *bundle.Key
	issuer *issuer
	server *admission.Server
	config admission.Config
}

// newGate makes a server for guests of hw. change comes before the server is made.
func newGate(t testing.TB, policyText []byte, change func(*admission.Config)) *gate {
	t.Helper()
	g := &gate{t: t, hw: newHardware(t), dir: t.TempDir(), issuer: &issuer{}, now: attesttest.Now}
	var err error
	g.key, err = bundle.NewKey()
	must(t, err)
	g.config = g.configure(policyText)
	if change != nil {
		change(&g.config)
	}
	g.server, err = admission.New(g.config)
	must(t, err)
	return g
}

func (g *gate) configure(policyText []byte) admission.Config {
	t := g.t
	t.Helper()
	if policyText == nil {
		policyText = policyFile(t)
	}
	p, err := policy.Parse(policyText)
	must(t, err)
	roots, err := appraise.Roots{}.WithPrivate(g.hw.roots)
	must(t, err)
	roots, err = roots.WithPrivate(attesttest.Authority().RootsPEM())
	must(t, err)
	ledger, err := admission.OpenLedger(filepath.Join(g.dir, "ledger"))
	must(t, err)
	audit, err := admission.OpenAudit(filepath.Join(g.dir, "audit.jsonl"))
	must(t, err)
	t.Cleanup(func() { _ = audit.Close() })
	return admission.Config{
		Judge: &admission.Judge{Policy: p, Roots: roots}, PolicyURI: "https://example.com/policy.yaml",
		Verifier: statement.Verifier{ID: "https://example.com/verifier", Version: map[string]string{"kettle-dispatch": "1.0.0"}},
		Ledger:   ledger, Audit: audit, Issuer: g.issuer, Key: g.key, Now: func() time.Time { return g.now() }, Limits: admission.DefaultLimits(),
		Metrics: admission.NewMetrics(),
	}
}

// policyFile is a policy for machines of this package. Each pair of changes replaces text in it.
func policyFile(t testing.TB, changes ...string) []byte {
	t.Helper()
	return attesttest.PolicyFile(t, append([]string{"floor: strict", "floor: default\n  chips: any"}, changes...)...)
}

func (g *gate) audit() string {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, "audit.jsonl"))
	must(g.t, err)
	return string(text)
}

func (g *gate) boot(change func(report []byte)) *admissiontest.Machine {
	g.t.Helper()
	m, err := admissiontest.Boot(g.t.Context(), g.hw.guest(g.t, change), g.now().Add(-time.Minute))
	must(g.t, err)
	return m
}

// post makes one exchange without a network.
func post(t testing.TB, s *admission.Server, path string, body []byte) (int, []byte) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, bytes.NewReader(body))
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w.Code, w.Body.Bytes()
}

// challenge asks for a nonce for an environment.
func (g *gate) challenge(key binding.Digest) *statement.Challenge {
	g.t.Helper()
	hello, err := wire.Hello{EnvironmentKey: key, Fresh: binding.Sum([]byte("fresh"))}.Encode()
	must(g.t, err)
	status, line := post(g.t, g.server, wire.PathChallenge, hello)
	if status != http.StatusOK {
		g.t.Fatalf("%d: %s", status, line)
	}
	b, err := bundle.Parse(line)
	must(g.t, err)
	payload, err := b.Verify(g.key.SPKI())
	must(g.t, err)
	c, err := statement.ParseChallenge(payload)
	must(g.t, err)
	return c
}

// talk is one conversation, whose parts a test may change.
type talk struct {
	nonce   binding.Digest // default: a fresh one
	request func(*statement.AdmissionRequest)
	context func(*binding.Context)
	message func(*wire.Request)
	key     *wire.Key
}

// ask has a machine ask, and gives status and body of the answer.
func (g *gate) ask(m *admissiontest.Machine, k talk) (int, []byte) {
	g.t.Helper()
	body := g.message(m, &k)
	return post(g.t, g.server, wire.PathAdmit, body)
}

func (g *gate) message(m *admissiontest.Machine, k *talk) []byte {
	g.t.Helper()
	var err error
	if k.key == nil {
		k.key, err = wire.NewKey()
		must(g.t, err)
	}
	if k.nonce.IsZero() {
		k.nonce = g.challenge(m.Key()).Conditions.Nonce
	}
	boot, bootEvidence := m.Boot()
	s := statement.AdmissionRequest{EnvironmentKey: m.Key(), BootEvidence: binding.Sum(bootEvidence), Conditions: statement.RequestConditions{
		Nonce: k.nonce, HPKEKey: k.key.Public(), Instance: m.Instance(), Prefix: admissiontest.Prefix,
	}}
	if k.request != nil {
		k.request(&s)
	}
	payload, err := s.Marshal()
	must(g.t, err)
	c := binding.Context{Purpose: binding.Admission, Nonce: s.Conditions.Nonce, HPKEKey: s.HPKEKey}
	if k.context != nil {
		k.context(&c)
	}
	r := wire.Request{Boot: boot, BootEvidence: bootEvidence}
	r.Statement, r.Evidence, err = m.Attest(g.t.Context(), payload, c, false)
	must(g.t, err)
	if k.message != nil {
		k.message(&r)
	}
	body, err := r.Encode()
	must(g.t, err)
	return body
}

// admitted demands that the machine is admitted, and gives what it was given.
func (g *gate) admitted(m *admissiontest.Machine, k talk) wire.Credential {
	g.t.Helper()
	var err error
	k.key, err = wire.NewKey()
	must(g.t, err)
	status, body := g.ask(m, k)
	if status != http.StatusOK {
		g.t.Fatalf("%d: %s", status, body)
	}
	return g.opened(m, k.key, body)
}

func (g *gate) opened(m *admissiontest.Machine, key *wire.Key, body []byte) wire.Credential {
	g.t.Helper()
	a, err := wire.ParseAnswer(body)
	must(g.t, err)
	b, err := bundle.Parse(a.Release)
	must(g.t, err)
	payload, err := b.Verify(g.key.SPKI())
	must(g.t, err)
	r, err := statement.ParseRelease(payload)
	must(g.t, err)
	plaintext, err := key.Open(
		wire.Terms{Nonce: r.Conditions.Nonce, EnvironmentKey: m.Key(), HPKEKey: key.Digest(), Summary: binding.Sum(a.Summary)},
		wire.Sealed{Encapsulated: r.Conditions.Encapsulated, Ciphertext: r.Conditions.Sealed},
	)
	must(g.t, err)
	c, err := wire.ParseCredential(plaintext)
	must(g.t, err)
	return c
}

// refused demands a refusal of the given code and link, that nothing was made for it, and that the audit log has it.
func (g *gate) refused(status int, body []byte, code refusal.Code, link string) {
	g.t.Helper()
	if status == http.StatusOK {
		g.t.Fatal("admitted")
	}
	r, err := wire.ParseRefusal(body)
	if err != nil {
		g.t.Fatalf("%d: %s: %v", status, body, err)
	}
	first := r.Refusals[0]
	if first.Code != code || !strings.Contains(first.Link, link) {
		g.t.Fatalf("refused for %v, want %s of %s", r.Err(), code, link)
	}
	if !errors.Is(r.Err(), refusal.ErrNotVerified) {
		g.t.Fatal("no refusal")
	}
	if log := g.audit(); !strings.Contains(log, `"code":"`+string(code)+`"`) {
		g.t.Fatalf("the audit log does not say %s: %s", code, log)
	}
	if strings.Contains(string(body)+g.audit(), releasedToken) {
		g.t.Fatal("a secret")
	}
}
