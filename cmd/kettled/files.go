// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/collect"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/runner/config"
)

// measured is the configuration with the files that it names. All of them are in the measured initramfs.
type measured struct {
	config   *config.Config
	policy   *policy.Policy
	tees     appraise.Roots // pinned and private roots of secure processors
	github   []byte         // PEM of a private CA of GitHub; empty means the system's roots
	sinkCA   *x509.CertPool // nil means the system's roots
	githubCA *x509.CertPool // nil means the system's roots
	imageCA  *x509.CertPool // nil means the system's roots

	sigstore   *bundle.Trust  // whose word about the image is taken
	dispatchCA *x509.CertPool // of the admission server; nil where nobody admits this machine
	operators  [][]byte       // DER SubjectPublicKeyInfo of the keys that admit
}

// load reads everything that the configuration names and refuses what does not parse.
func load(configuration []byte) (*measured, error) {
	c, err := config.Parse(configuration)
	if err != nil {
		return nil, err
	}
	m := &measured{config: c}
	text, err := read(c.Policy)
	if err != nil {
		return nil, err
	}
	if m.policy, err = policy.Parse(text); err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	if m.tees, err = roots(c.Platforms); err != nil {
		return nil, err
	}
	if m.github, m.githubCA, err = authorities(c.GitHub.Roots); err != nil {
		return nil, err
	}
	if _, m.sinkCA, err = authorities(c.Sink.Roots); err != nil {
		return nil, err
	}
	return m, m.outside()
}

// outside reads whose word about this machine is taken: who signs its image, and who admits it.
func (m *measured) outside() (err error) {
	c := m.config
	if _, m.imageCA, err = authorities(c.Image.Roots); err != nil {
		return err
	}
	if m.sigstore, err = trustOf(c.Image.TrustedRoot); err != nil {
		return err
	}
	if _, m.dispatchCA, err = authorities(c.Credential.Roots); err != nil {
		return err
	}
	for _, name := range c.Credential.Keys {
		text, err := read(name)
		if err != nil {
			return err
		}
		spki, err := bundle.LoadPublicKey(text)
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		m.operators = append(m.operators, spki)
	}
	return nil
}

// read gives one file beside the configuration. Its name was checked to be a plain one.
func read(name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(image.ConfigDir, name)) //nolint:gosec // a plain file name, checked by config.
	if err != nil {
		return nil, fmt.Errorf("reading the image's configuration: %w", err)
	}
	return b, nil
}

// roots gives the roots that this image accepts for its own quotes: a vendor's when it allows a platform of that vendor,
// and the named ones.
func roots(p config.Platforms) (appraise.Roots, error) {
	pinned, err := appraise.Pinned()
	if err != nil {
		return appraise.Roots{}, err
	}
	var out appraise.Roots
	for _, platform := range p.Allowed {
		switch platform {
		case collect.PlatformSNP, collect.PlatformAzSNP:
			out.AMD = pinned.AMD
		case collect.PlatformTDX, collect.PlatformAzTDX:
			out.Intel = pinned.Intel
		}
	}
	for _, name := range p.Roots {
		text, err := read(name)
		if err != nil {
			return appraise.Roots{}, err
		}
		if out, err = out.WithPrivate(text); err != nil {
			return appraise.Roots{}, fmt.Errorf("reading roots %s: %w", name, err)
		}
	}
	return out, nil
}

// authorities gives the PEM and the pool of private certificate authorities; neither when there are none.
func authorities(names []string) ([]byte, *x509.CertPool, error) {
	if len(names) == 0 {
		return nil, nil, nil
	}
	pool := x509.NewCertPool()
	var all [][]byte
	for _, name := range names {
		text, err := read(name)
		if err != nil {
			return nil, nil, err
		}
		if !pool.AppendCertsFromPEM(text) {
			return nil, nil, errors.New("roots file " + name + " holds no certificate")
		}
		all = append(all, text)
	}
	return bytes.Join(all, []byte{'\n'}), pool, nil
}
