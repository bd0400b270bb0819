// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/registry"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/boot"
	"github.com/kettle/attest/runner/config"
	"github.com/kettle/attest/runner/selfverify"
)

// maxBundle bounds the bundle of an image, wherever it comes from, in bytes.
const maxBundle = 4 << 20

// own is what this machine found about itself before it did anything else: it runs the image that a trusted workflow built.
type own struct {
	device    device
	appraiser appraiser
	bundle    []byte // of the image
	self      runner.Self
	image     runner.Image
}

var _ runner.ImageVerifier = (*own)(nil)

// verifySelf opens the secure processor, asks it what this machine is, and holds that against the image's bundle. Every
// error of it ends the machine.
func verifySelf(ctx context.Context, m *measured, env *boot.Environment) (o *own, err error) {
	opened, err := openDevice(ctx, m.config.Platforms.Allowed)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.Close())
		}
	}()
	v, err := newSelfVerifier(ctx, m, env)
	if err != nil {
		return nil, err
	}
	o = &own{device: device{opened}, appraiser: appraiser{roots: m.tees, allowed: m.config.Platforms.Allowed}, bundle: v.Bundle}
	q, err := o.device.Quote(ctx, [64]byte{})
	if err != nil {
		return nil, fmt.Errorf("asking the secure processor: %w", err)
	}
	now := time.Now()
	if o.self, err = o.appraiser.Appraise(q, now); err != nil {
		return nil, errors.New(selfverify.Sentence(err))
	}
	if o.image, err = v.VerifyImage(ctx, q, now); err != nil {
		return nil, errors.New(selfverify.Sentence(err))
	}
	return o, nil
}

// VerifyImage implements [runner.ImageVerifier]: this machine was verified, and the quote is of this machine.
func (o *own) VerifyImage(_ context.Context, q runner.Quote, at time.Time) (runner.Image, error) {
	self, err := o.appraiser.Appraise(q, at)
	if err != nil {
		return runner.Image{}, err
	}
	if self != o.self {
		return runner.Image{}, errors.New("the quote is of another machine than the one that was verified at boot")
	}
	return o.image, nil
}

func (o *own) close() error { return o.device.Close() }

// newSelfVerifier gathers what this machine is held against: the image's bundle, and what the machine can measure of itself
// beside its secure processor.
func newSelfVerifier(ctx context.Context, m *measured, env *boot.Environment) (*selfverify.Verifier, error) {
	lines, err := imageBundle(ctx, m, env)
	if err != nil {
		return nil, err
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, fmt.Errorf("reading the kernel command line: %w", err)
	}
	components := map[string]binding.Digest{
		statement.ComponentConfiguration: m.config.Digest(), statement.ComponentPolicy: m.policy.Digest(),
		statement.ComponentRootHash: binding.Digest(env.CommandLine.Root.RootHash),
	}
	for name, path := range map[string]string{
		statement.ComponentKettled: "/proc/self/exe", statement.ComponentAction: image.ToolsDir + "/kettle-action",
	} {
		if components[name], err = digestOf(path); err != nil {
			return nil, err
		}
	}
	return &selfverify.Verifier{
		Bundle: lines, Trust: m.sigstore, Policy: m.policy, Digest: m.policy.Digest(), Roots: m.tees, Allowed: m.config.Platforms.Allowed,
		Machine: selfverify.Machine{
			VCPUs: runtime.NumCPU(), CommandLine: bytes.TrimSuffix(line, []byte{'\n'}), Components: components,
		},
		MaxAge: m.config.Image.MaxAge,
	}, nil
}

// imageBundle takes the bundle from where the measured configuration says. It proves nothing by itself: whoever hands it
// over may be the host.
func imageBundle(ctx context.Context, m *measured, env *boot.Environment) ([]byte, error) {
	switch {
	case m.config.Image.Bundle == config.BundlePartition:
		return boot.ReadBundle()
	case m.config.Image.InRegistry():
		return pull(ctx, m, env.CommandLine.Root.RootHash)
	}
	return download(ctx, m)
}

// pull fetches the bundle from a registry, to which this machine is nobody. A reference without a tag is of the image whose root
// this machine runs from.
func pull(ctx context.Context, m *measured, root image.SHA256) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ref, err := registry.Parse(m.config.Image.Bundle)
	if err != nil {
		return nil, fmt.Errorf("fetching the bundle of the image: %w", err)
	}
	lines, err := registry.Client{Roots: m.imageCA}.Pull(ctx, ref.ForRoot(root))
	if err != nil {
		return nil, fmt.Errorf("fetching the bundle of the image: %w", err)
	}
	return lines, nil
}

// download fetches the bundle over TLS: JSON Lines, or an answer of GitHub's attestations API. Redirections lead to https addresses only.
func download(ctx context.Context, m *measured) (body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.config.Image.Bundle, nil)
	if err != nil {
		return nil, fmt.Errorf("fetching the bundle of the image: %w", err)
	}
	client := &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: m.imageCA}, DisableKeepAlives: true},
		CheckRedirect: func(next *http.Request, before []*http.Request) error {
			if next.URL.Scheme != "https" || len(before) > 5 {
				return errors.New("it leads elsewhere than to an https address")
			}
			return nil
		},
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("fetching the bundle of the image: %w", err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetching the bundle of the image: the server answers %d", response.StatusCode)
	}
	body, err = io.ReadAll(io.LimitReader(response.Body, maxBundle+1))
	if err != nil {
		return nil, fmt.Errorf("fetching the bundle of the image: %w", err)
	}
	if len(body) > maxBundle {
		return nil, fmt.Errorf("fetching the bundle of the image: it has more than %d bytes", maxBundle)
	}
	return bundle.FromGitHub(body)
}

// digestOf hashes a file.
func digestOf(path string) (d binding.Digest, err error) {
	file, err := os.Open(path) //nolint:gosec // this program, and one of the verified root.
	if err != nil {
		return d, fmt.Errorf("measuring this machine: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return d, fmt.Errorf("measuring this machine: %w", err)
	}
	return binding.Digest(h.Sum(nil)), nil
}

// trustOf reads Sigstore's trusted root of the measured configuration.
func trustOf(name string) (*bundle.Trust, error) {
	text, err := read(name)
	if err != nil {
		return nil, err
	}
	trust, err := bundle.ParseTrust(text)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return trust, nil
}

// clockTolerance is how far this machine's clock may be from the dispatcher's: certificates and policies are judged by it.
const clockTolerance = 2 * time.Minute
