// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/dispatch/admission"
)

// admitFlags are the flags of admit as written.
type admitFlags struct {
	placeFlags
	listen, certificate, key, selfSigned     string
	policy, policyURI, trustedRoot, operator string
	roots, tpmRoots                          []string
	ledger, audit, verifier, metrics, log    string
	expose                                   bool
}

func (a *app) admitCommand() *cobra.Command {
	var f admitFlags
	cmd := &cobra.Command{
		Use: "admit --listen ADDR --certificate FILE --key FILE --policy FILE --ledger DIR --audit FILE --operator-key FILE\n" +
			"                        --settings DIR --credential FILE",
		Short: "Appraise machines from outside, and give only those that pass a credential",
		Long: `admit is the gate before a machine gets anything. A machine asks it for a nonce and answers with a hardware quote that
names the nonce and a key of the machine's own. admit appraises the quote by the policy's environments, revocation
included, writes down that the machine was admitted, and only then sends a credential, sealed to that key. With it goes
a signed summary, VSA-ENV, which travels in the bundles of the machine's job.

A machine is admitted once, whatever it asks later: the ledger has a file for each. Several servers may share a ledger,
and must, where they give out credentials for the same place. Never remove a file from it. A server that is killed
between the file and the answer has lost that machine, and says so when the machine asks again: start a new one.

What is released is a token of the GitHub App in --credential, limited to the target of --settings: to register runners
there and to read the facts of its jobs. It ends within an hour. The App's key stays here, and the machine registers its
runner itself.

The operator's key signs the summaries. Make one, and give its public half to the images (credential.keys of their
configuration) and to those who verify (environments.admission.keys of their policy):

  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out operator.pem
  openssl pkey -in operator.pem -pubout -out operator.pub

Files may be named credential:NAME, for what systemd has put into $CREDENTIALS_DIRECTORY. Certificate and key are read
anew when they change; the policy is not: start the server anew. SIGTERM ends it when what it has begun is done.

Every decision is a line of --audit, with its reasons and without secrets.`,
		Example: `  kettle-dispatch admit --listen :8443 --certificate tls.pem --key tls.key --policy policy.yaml --trusted-root trusted_root.json \
    --ledger /var/lib/kettle/ledger --audit /var/log/kettle/admissions.jsonl --operator-key operator.pem \
    --settings settings --credential app.json

  # To try it out with a simulator, on this host alone
  kettle-dispatch admit --listen 127.0.0.1:8443 --certificate tls.pem --key tls.key --self-signed 127.0.0.1 \
    --root sim/roots.pem …`,
		Args: cobra.NoArgs,
		RunE: a.Does(func(cmd *cobra.Command, _ []string) error { return a.admit(cmd.Context(), &f) }),
	}
	f.flags(cmd)
	return cmd
}

func (f *admitFlags) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "", "address for machines, as :8443 (required)")
	flags.StringVar(&f.certificate, "certificate", "", "PEM file of the server's certificate chain (required)")
	flags.StringVar(&f.key, "key", "", "PEM file of its key (required)")
	flags.StringVar(&f.selfSigned, "self-signed", "", "make both files for these names, separated by commas, if they are not there: to try it out")
	flags.StringVar(&f.policy, "policy", "", "policy file: its sections environments and revoked decide (required)")
	flags.StringVar(&f.policyURI, "policy-uri", "", "where consumers find the policy, for the summaries (default: a URN with its digest)")
	flags.StringVar(&f.trustedRoot, "trusted-root", "", "Sigstore trusted root that images are verified with; needed unless the policy says images: any")
	flags.StringArrayVar(&f.roots, "root", nil, "PEM file of a simulator's or private root; may be repeated")
	flags.StringArrayVar(&f.tpmRoots, "tpm-root", nil, "PEM file of a provider's root that certifies attestation keys; may be repeated")
	flags.StringVar(&f.ledger, "ledger", "", "folder with a file for each machine that was admitted (required)")
	flags.StringVar(&f.audit, "audit", "", "file to which each decision is appended (required)")
	flags.StringVar(&f.operator, "operator-key", "", "PEM file of the operator's ECDSA P-256 key; nobody else may read it (required)")
	flags.StringVar(&f.verifier, "verifier", verifierID, "URI of who judges, for the summaries")
	flags.StringVar(&f.settings, "settings", "", "folder of the images' configuration: config.yaml says where runners register (required)")
	flags.StringVar(&f.credential, "credential", "", "file with a GitHub App as JSON; nobody else may read it (required)")
	flags.StringArrayVar(&f.forwards, "forward", nil, "GUEST=HOST: what the configuration resolves to an endpoint of 10.0.2.0/24 goes to one of this host; may be repeated")
	flags.StringVar(&f.metrics, "metrics", "", "address for /metrics and /healthz, as 127.0.0.1:9465")
	flags.BoolVar(&f.expose, "expose", false, "let --metrics name an address that others can reach")
	flags.StringVar(&f.log, "log", "off", "log on the error stream: off, text or json")
	required(cmd, "listen", "certificate", "key", "policy", "ledger", "audit", "operator-key", "settings", "credential")
}

// verifierID says that this program judged, for operators who give no name of their own.
const verifierID = "https://github.com/kettle/attest/verifiers/admission/v1"

// admit serves until ctx ends.
func (a *app) admit(ctx context.Context, f *admitFlags) (err error) {
	log, err := logger(a.io.Err, f.log)
	if err != nil {
		return err
	}
	if err := f.place(); err != nil {
		return err
	}
	certificate, err := f.serverCertificate(log)
	if err != nil {
		return err
	}
	c, err := f.config(log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Audit.Close()) }()
	p, err := f.open()
	if err != nil {
		return err
	}
	defer p.client.Close()
	if c.Issuer, err = f.issuer(p); err != nil {
		return err
	}
	server, err := admission.New(*c)
	if err != nil {
		return cli.Usagef("%w", err)
	}
	metrics, err := listen(ctx, f.metrics, f.expose)
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.listen)
	if err != nil {
		if metrics != nil {
			err = errors.Join(err, metrics.Close())
		}
		return fmt.Errorf("listening on --listen: %w", err)
	}
	fmt.Fprintf(a.io.Out, "listening     %s\noperator key  sha256:%s\npolicy        sha256:%s\n", l.Addr(), c.Key.Digest(), c.Judge.Policy.Digest())
	for _, open := range c.Judge.Policy.Open() {
		fmt.Fprintf(a.io.Out, "open          %s\n", open)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(ctx, l, certificate.Get) })
	if metrics != nil {
		group.Go(func() error { return serveMetrics(ctx, metrics, c.Metrics) })
	}
	return group.Wait()
}

// place finds what systemd has put into its folder.
func (f *admitFlags) place() error {
	for name, path := range map[string]*string{
		"--certificate": &f.certificate, "--key": &f.key, "--operator-key": &f.operator, "--credential": &f.credential,
	} {
		rest, ok := strings.CutPrefix(*path, "credential:")
		if !ok {
			continue
		}
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" || rest == "" || rest != filepath.Base(rest) || rest == ".." {
			return cli.Usagef("%s %s: want the name of a file in $CREDENTIALS_DIRECTORY, which systemd sets", name, *path)
		}
		*path = filepath.Join(dir, rest)
	}
	return nil
}

func (f *admitFlags) serverCertificate(log *slog.Logger) (*admission.Certificate, error) {
	if f.selfSigned != "" {
		if _, err := os.Lstat(f.certificate); errors.Is(err, fs.ErrNotExist) {
			if err := admission.SelfSign(f.certificate, f.key, strings.Split(f.selfSigned, ","), time.Now()); err != nil {
				return nil, cli.Usagef("--self-signed: %w", err)
			}
		}
	}
	if _, err := cli.ReadPrivate(f.key); err != nil {
		return nil, cli.Usagef("--key: %w", err)
	}
	c, err := admission.LoadCertificate(f.certificate, f.key, time.Now, log)
	if err != nil {
		return nil, cli.Usagef("--certificate, --key: %w", err)
	}
	return c, nil
}

// config reads everything but what speaks to GitHub.
func (f *admitFlags) config(log *slog.Logger) (_ *admission.Config, err error) {
	judge, err := f.judge()
	if err != nil {
		return nil, err
	}
	text, err := cli.ReadPrivate(f.operator)
	if err != nil {
		return nil, cli.Usagef("--operator-key: %w", err)
	}
	key, err := bundle.LoadKey(text)
	if err != nil {
		return nil, cli.Usagef("--operator-key: %w", err)
	}
	ledger, err := admission.OpenLedger(f.ledger)
	if err != nil {
		return nil, cli.Usagef("--ledger: %w", err)
	}
	audit, err := admission.OpenAudit(f.audit)
	if err != nil {
		return nil, cli.Usagef("--audit: %w", err)
	}
	return &admission.Config{
		Judge: judge, PolicyURI: cmp.Or(f.policyURI, "urn:kettle:policy:sha256:"+judge.Policy.Digest().String()),
		Verifier: statement.Verifier{ID: f.verifier, Version: map[string]string{"kettle-dispatch": version()}},
		Ledger:   ledger, Audit: audit, Key: key, Now: time.Now, Limits: admission.DefaultLimits(), Logger: log, Metrics: admission.NewMetrics(),
	}, nil
}

func (f *admitFlags) judge() (*admission.Judge, error) {
	text, err := os.ReadFile(f.policy)
	if err != nil {
		return nil, cli.Usagef("--policy: %w", err)
	}
	p, err := policy.Parse(text)
	if err != nil {
		return nil, cli.Usagef("--policy: %w", err)
	}
	roots, err := f.trustedRoots()
	if err != nil {
		return nil, err
	}
	j := &admission.Judge{Policy: p, Roots: roots}
	if f.trustedRoot != "" {
		text, err := os.ReadFile(f.trustedRoot)
		if err != nil {
			return nil, cli.Usagef("--trusted-root: %w", err)
		}
		trust, err := bundle.ParseTrust(text)
		if err != nil {
			return nil, cli.Usagef("--trusted-root: %w", err)
		}
		j.Images = &admission.SignedImages{Trust: trust, Policy: p}
	}
	if err := j.Validate(time.Now()); err != nil {
		return nil, cli.Usagef("--policy, --trusted-root: %w", err)
	}
	return j, nil
}

// trustedRoots gives the pinned roots of vendors and those that the operator names.
func (f *admitFlags) trustedRoots() (appraise.Roots, error) {
	roots, err := appraise.Pinned()
	if err != nil {
		return appraise.Roots{}, err
	}
	for _, name := range f.roots {
		text, err := os.ReadFile(name) //nolint:gosec // the operator's own.
		if err == nil {
			roots, err = roots.WithPrivate(text)
		}
		if err != nil {
			return appraise.Roots{}, cli.Usagef("--root: %w", err)
		}
	}
	for _, name := range f.tpmRoots {
		text, err := os.ReadFile(name) //nolint:gosec // the operator's own.
		if err == nil {
			roots, err = roots.WithTPM(text)
		}
		if err != nil {
			return appraise.Roots{}, cli.Usagef("--tpm-root: %w", err)
		}
	}
	return roots, nil
}

// issuer makes what makes credentials. Only an App can make a token that can do less than its own.
func (f *admitFlags) issuer(p *place) (admission.Issuer, error) {
	if !p.app {
		return nil, cli.Usagef("--credential is no GitHub App, and nothing else can make a token that can do less")
	}
	return &admission.TokenIssuer{App: p.client, Grant: p.client.Grant()}, nil
}

func serveMetrics(ctx context.Context, l net.Listener, m *admission.Metrics) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	const limit = 10 * time.Second
	server := &http.Server{Handler: mux, ReadTimeout: limit, WriteTimeout: limit, IdleTimeout: limit, MaxHeaderBytes: 8 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving metrics: %w", err)
	}
	return nil
}

// version is the program's, as the go command wrote it down.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
