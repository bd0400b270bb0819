// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/dispatch/admission"
	"github.com/kettle/attest/dispatch/admission/admissiontest"
	"github.com/kettle/attest/internal/secret"
)

// The environment of a server that is a process of its own.
const (
	childEnv = "KETTLE_TEST_ADMISSION_DIR"
	dieEnv   = "KETTLE_TEST_ADMISSION_DIE" // before this step it kills itself, as kill -9 does
)

// steps are where a server can be killed, in order: before the credential is made, in the ledger, before and after the
// answer is handed to the network.
func steps() []string {
	return []string{"issue", "create", "write", "sync", "link", "settle", "answer", "answered"}
}

// child serves the ledger of a folder until its standard input ends.
func child() int {
	if err := serveFolder(os.Getenv(childEnv), os.Getenv(dieEnv)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func serveFolder(dir, die string) error {
	step := func(name string) {
		if name == die {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	c, err := configOf(dir)
	if err != nil {
		return err
	}
	c.Ledger.Watch(step)
	c.Issuer = &issuer{before: func() { step("issue") }}
	server, err := admission.New(c)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it ends with the process.
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // a test.
			server.Handler().ServeHTTP(&stepping{w, step}, r)
		}))
	}()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// stepping is a network that a server can be killed before and after.
type stepping struct {
	http.ResponseWriter
	step func(string)
}

func (s *stepping) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *stepping) Write(b []byte) (int, error) {
	lines := bytes.Count(b, []byte{'\n'}) == 2 // an answer that releases something
	if lines {
		s.step("answer")
	}
	n, err := s.ResponseWriter.Write(b)
	if lines {
		_ = http.NewResponseController(s.ResponseWriter).Flush()
		s.step("answered")
	}
	return n, err
}

// configOf reads what a folder says about a server.
func configOf(dir string) (c admission.Config, err error) {
	read := func(name string) []byte {
		b, e := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // the test's own.
		err = errors.Join(err, e)
		return b
	}
	policyText, rootsText, keyText := read("policy.yaml"), read("roots.pem"), read("operator.pem")
	if err != nil {
		return c, err
	}
	p, err := policy.Parse(policyText)
	if err != nil {
		return c, err
	}
	roots, err := appraise.Roots{}.WithPrivate(rootsText)
	if err != nil {
		return c, err
	}
	key, err := bundle.LoadKey(secret.New(string(keyText)))
	if err != nil {
		return c, err
	}
	ledger, err := admission.OpenLedger(filepath.Join(dir, "ledger"))
	if err != nil {
		return c, err
	}
	audit, err := admission.OpenAudit(filepath.Join(dir, "audit.jsonl"))
	return admission.Config{
		Judge: &admission.Judge{Policy: p, Roots: roots}, PolicyURI: "https://example.com/policy.yaml",
		Verifier: statement.Verifier{ID: "https://example.com/verifier", Version: map[string]string{"kettle-dispatch": "1.0.0"}},
		Ledger:   ledger, Audit: audit, Key: key, Now: attesttest.Now, Limits: admission.DefaultLimits(),
	}, err
}

// process is a server that is a process of its own.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.Closer
	addr string
}

func startProcess(t *testing.T, dir, die string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.CommandContext(t.Context(), os.Args[0])}
	p.cmd.Env = append(os.Environ(), childEnv+"="+dir, dieEnv+"="+die)
	in, err := p.cmd.StdinPipe()
	must(t, err)
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	p.cmd.Stderr, p.in = os.Stderr, in
	must(t, p.cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	p.addr = strings.TrimSpace(line)
	t.Cleanup(func() { _ = p.in.Close(); _ = p.cmd.Wait() })
	return p
}

// post makes one exchange; an error means that the server is no more.
func (p *process) post(path string, body []byte) (int, []byte, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, "http://"+p.addr+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}

// folder is what several servers share.
type folder struct {
	*gate
	dir string
}

func newFolder(t *testing.T, hw hardware) *folder {
	t.Helper()
	f := &folder{gate: &gate{t: t, hw: hw, now: attesttest.Now}, dir: t.TempDir()}
	f.gate.dir = f.dir
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	f.key, err = bundle.LoadKey(secret.New(string(text)))
	must(t, err)
	for name, data := range map[string][]byte{"policy.yaml": policyFile(t), "roots.pem": hw.roots, "operator.pem": text} {
		must(t, os.WriteFile(filepath.Join(f.dir, name), data, 0o600))
	}
	return f
}

// asks has a machine talk to one server. It is nil where nothing came back.
func (f *folder) asks(p *process, m *admissiontest.Machine) (answer []byte, refusal string) {
	f.t.Helper()
	hello, err := wire.Hello{EnvironmentKey: m.Key(), Fresh: m.Key()}.Encode()
	must(f.t, err)
	status, line, err := p.post(wire.PathChallenge, hello)
	if err != nil || status != http.StatusOK {
		f.t.Fatalf("%d, %v", status, err)
	}
	b, err := bundle.Parse(line)
	must(f.t, err)
	c, err := statement.ParseChallenge(b.Payload())
	must(f.t, err)
	k := talk{nonce: c.Conditions.Nonce}
	status, body, err := p.post(wire.PathAdmit, f.message(m, &k))
	switch {
	case err != nil:
		return nil, "no answer"
	case status != http.StatusOK:
		return nil, string(body)
	}
	if c := f.opened(m, k.key, body); c.Token.Reveal() != releasedToken {
		f.t.Fatal("another credential")
	}
	return body, ""
}

// TestAttackKilledServer kills one of two servers before each of its steps, with kill -9, and has the machine ask the
// other. Nothing is released twice. What is in the ledger is lost for good, and the refusal says so.
func TestAttackKilledServer(t *testing.T) {
	t.Parallel()
	hw := newHardware(t)
	for i, step := range steps() {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t, hw)
			dies, lives := startProcess(t, f.dir, step), startProcess(t, f.dir, "")
			m := f.boot(nil)
			first, _ := f.asks(dies, m)
			second, refusal := f.asks(lives, m)
			released := 0
			for _, a := range [][]byte{first, second} {
				if a != nil {
					released++
				}
			}
			written := i > slices.Index(steps(), "create")
			switch {
			case released > 1:
				t.Fatal("released twice")
			case !written && second == nil:
				t.Fatalf("nothing was written, and the other server does not admit: %s", refusal)
			case written && second != nil:
				t.Fatal("it was in the ledger, and the other server admits it")
			case written && !strings.Contains(refusal, "lost for good"):
				t.Errorf("the refusal does not say what happened: %s", refusal)
			case (step == "answered") != (first != nil):
				t.Errorf("answer of the server that was killed: %s", first)
			}
		})
	}
}

// TestAttackTwoServersAtOnce has one machine ask two servers at the same moment, under two environment keys, which a
// machine without a register can make as it likes, many times.
func TestAttackTwoServersAtOnce(t *testing.T) {
	t.Parallel()
	f := newFolder(t, newHardware(t))
	servers := []*process{startProcess(t, f.dir, ""), startProcess(t, f.dir, "")}
	const rounds = 12
	for round := range rounds {
		same := func(report []byte) { copy(report[0x140:0x160], bytes.Repeat([]byte{byte(round + 1)}, 32)) }
		machines := []*admissiontest.Machine{f.boot(same), f.boot(same)}
		var mu sync.Mutex
		released := 0
		var group sync.WaitGroup
		for _, m := range machines {
			for _, p := range servers {
				group.Go(func() {
					if a, _ := f.asks(p, m); a != nil {
						mu.Lock()
						released++
						mu.Unlock()
					}
				})
			}
		}
		group.Wait()
		if released != 1 {
			t.Fatalf("released %d times", released)
		}
	}
}

// TestOrder: everything is on the disk before the answer leaves.
func TestOrder(t *testing.T) {
	t.Parallel()
	var got []string
	g := newGate(t, nil, func(c *admission.Config) { c.Ledger.Watch(func(name string) { got = append(got, name) }) })
	g.issuer.before = func() { got = append(got, "issue") }
	m := g.boot(nil)
	g.admitted(m, talk{})
	if want := steps()[:6]; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	got = nil
	status, body := g.ask(m, talk{})
	g.refused(status, body, "policy", "instance")
	if len(got) > 0 {
		t.Errorf("for a machine that was admitted: %q", got)
	}
}

// TestBrokenDisk: where a step fails nothing is released, whatever was made by then.
func TestBrokenDisk(t *testing.T) {
	t.Parallel()
	for _, step := range steps()[1:6] {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, nil, func(c *admission.Config) { c.Ledger.Break(step, errors.New("no space left on device")) })
			status, body := g.ask(g.boot(nil), talk{})
			r, err := wire.ParseRefusal(body)
			if status != http.StatusServiceUnavailable || err != nil || r.Final || g.issuer.issued != 1 {
				t.Errorf("%d %s, %d made", status, body, g.issuer.issued)
			}
			if bytes.Contains(body, []byte("no space")) {
				t.Error("a stranger learns of the disk")
			}
			if log := g.audit(); !strings.Contains(log, "no space left") || !strings.Contains(log, `"decision":"deferred"`) {
				t.Error(log)
			}
		})
	}
}
