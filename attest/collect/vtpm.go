// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"context"
	"errors"

	"github.com/kettle/attest/attest/collect/azure"
	"github.com/kettle/attest/attest/collect/tpm"
)

// Where providers keep the certificates of attestation keys: Google beside a template, Azure beside a persistent key
// (go-tpm-tools, client/handles.go; Microsoft "Trusted launch").
const (
	gceECCCertificate tpm.Index = 0x01c10002
	gceECCTemplate    tpm.Index = 0x01c10003
	gceRSACertificate tpm.Index = 0x01c10000
	gceRSATemplate    tpm.Index = 0x01c10001

	// The manufacturer's chain (EK Credential Profile 2.5, section 2.2.1.5.2).
	ekChainFirst tpm.Index = 0x01c00100
	ekChainMost  tpm.Index = 16
)

// vtpmSource is a TPM 2.0 alone. It proves as much as whoever holds it.
type vtpmSource struct {
	settings
	tpm       *tpm.TPM
	ak        tpm.Key
	ek        tpm.Algorithm
	certified bool // by the provider: then the endorsement key has no part
	vouch     TPMQuote
	notes     []Note
}

func openVTPM(ctx context.Context, s settings) (source, error) {
	t, err := s.tpm(PlatformVTPM, s.path(tpm.Device))
	if err != nil {
		return nil, err
	}
	p := &vtpmSource{settings: s, tpm: t}
	if err := p.open(ctx); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// open finds the key that somebody vouches for, in this order: a key that the provider certified, else one of our own
// that the endorsement key can vouch for.
func (p *vtpmSource) open(ctx context.Context) error {
	for _, find := range []func(context.Context) (bool, error){p.azureKey, p.googleKey} {
		found, err := find(ctx)
		if found || err != nil {
			p.certified = found
			return err
		}
	}
	var err error
	if p.ak, err = p.tpm.CreateAK(ctx); err != nil {
		return err
	}
	return p.endorsementKey(ctx)
}

// absentIs turns "not in this TPM" into false.
func absentIs(err error) (bool, error) {
	if errors.Is(err, tpm.ErrAbsent) {
		return false, nil
	}
	return false, err
}

func (p *vtpmSource) azureKey(ctx context.Context) (bool, error) {
	cert, err := p.tpm.ReadNV(ctx, azure.AKCertificateIndex)
	if err != nil {
		return absentIs(err)
	}
	if p.ak, err = p.tpm.Key(ctx, azure.AKHandle); err != nil {
		return absentIs(err)
	}
	p.vouch.AKCertificate = cert
	return true, nil
}

func (p *vtpmSource) googleKey(ctx context.Context) (bool, error) {
	for _, at := range [][2]tpm.Index{{gceECCCertificate, gceECCTemplate}, {gceRSACertificate, gceRSATemplate}} {
		cert, err := p.tpm.ReadNV(ctx, at[0])
		if err == nil {
			var template []byte
			if template, err = p.tpm.ReadNV(ctx, at[1]); err == nil {
				p.ak, err = p.tpm.CreateFrom(ctx, template)
			}
		}
		switch {
		case err == nil:
			p.vouch.AKCertificate = cert
			return true, nil
		case !errors.Is(err, tpm.ErrAbsent):
			return false, err
		}
	}
	return false, nil
}

// endorsementKey gathers what a verifier needs to challenge the endorsement key: its certificate, its public area and
// the chain. A TPM without a certificate is noted; nobody can tell it from software.
func (p *vtpmSource) endorsementKey(ctx context.Context) error {
	var err error
	for _, p.ek = range []tpm.Algorithm{tpm.P256, tpm.RSA2048} {
		if p.vouch.EKCertificate, err = p.tpm.ReadNV(ctx, p.ek.EKCertificate()); !errors.Is(err, tpm.ErrAbsent) {
			break
		}
	}
	if errors.Is(err, tpm.ErrAbsent) {
		p.notes = []Note{{"endorsement key certificate", "not available: the TPM holds none"}}
		p.ek, err = tpm.P256, nil
	}
	if err != nil {
		return err
	}
	key, err := p.tpm.CreateEK(ctx, p.ek)
	if err != nil {
		return err
	}
	p.vouch.EKPublic = key.Public
	if err := p.tpm.Flush(key); err != nil {
		return err
	}
	for i := range ekChainMost {
		cert, err := p.tpm.ReadNV(ctx, ekChainFirst+i)
		if err != nil {
			_, err = absentIs(err)
			return err
		}
		p.vouch.EKChain = append(p.vouch.EKChain, cert...)
	}
	return nil
}

func (p *vtpmSource) platform() string { return PlatformVTPM }

func (p *vtpmSource) quote(ctx context.Context, data [64]byte) (Quote, error) {
	q := Quote{Provider: ProviderTPM, Via: "tpm", Notes: append([]Note(nil), p.notes...)}
	return q, addTPM(ctx, p.settings, &q, tpmSigner{p.tpm, p.ak, p.vouch}, data)
}

func (p *vtpmSource) extend(ctx context.Context, digest [32]byte) error {
	_, err := p.tpm.Extend(ctx, tpmRegister, digest)
	return err
}

func (p *vtpmSource) activate(ctx context.Context, credential, secret []byte) ([]byte, error) {
	if p.certified {
		return nil, &UnsupportedError{Platform: PlatformVTPM, Need: "no activation: the provider certified the attestation key"}
	}
	ek, err := p.tpm.CreateEK(ctx, p.ek)
	if err != nil {
		return nil, err
	}
	answer, err := p.tpm.Activate(ctx, ek, p.ak, credential, secret)
	return answer, errors.Join(err, p.tpm.Flush(ek))
}

func (p *vtpmSource) close() error { return errors.Join(p.tpm.Flush(p.ak), p.tpm.Close()) }
