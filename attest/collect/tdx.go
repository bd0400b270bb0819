// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"context"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/kettle/attest/attest/collect/endorse"
	"github.com/kettle/attest/attest/collect/fault"
	"github.com/kettle/attest/attest/collect/tsm"
)

// Places in a TDX quote (Intel "TDX DCAP Quoting Library API", appendix A.3).
const (
	tdQuoteHeader    = 48
	tdQuoteV5Prefix  = 6 // type and size of the body
	tdMRTDOffset     = 0x88
	tdReportData     = 0x208
	tdShortestReport = tdQuoteHeader + tdQuoteV5Prefix + tdReportData + 64
)

// tdxSource is TDX with the guest's own access to the module.
type tdxSource struct {
	*kernel
	intel intelEndorsements
}

func openTDX(ctx context.Context, s settings) (source, error) {
	k, err := openKernel(s, tsm.TDX, tsm.TDXGuest)
	if err != nil {
		return nil, err
	}
	p := &tdxSource{kernel: k, intel: intelEndorsements{settings: s}}
	if _, err := p.quote(ctx, [64]byte{}); err != nil {
		return nil, errors.Join(err, k.close())
	}
	return p, nil
}

func (p *tdxSource) platform() string { return PlatformTDX }

func (p *tdxSource) quote(ctx context.Context, data [64]byte) (Quote, error) {
	r, err := p.report(ctx, data)
	if err != nil {
		return Quote{}, err
	}
	body, err := tdBody(r.Out)
	if err != nil {
		return Quote{}, fault.Broken("asking for a quote", err)
	}
	if [64]byte(body[tdReportData:][:64]) != data {
		return Quote{}, fault.Broken("asking for a quote", errors.New("a quote over other report data"))
	}
	q := Quote{Provider: ProviderTDX, Via: r.Via, Report: r.Out}
	if err := p.intel.add(ctx, &q); err != nil {
		return Quote{}, err
	}
	if err := p.fetchLaunch(ctx, &q, endorse.TDX, body[tdMRTDOffset:][:48]); err != nil {
		return Quote{}, err
	}
	if err := p.addCCEL(&q); err != nil {
		return Quote{}, err
	}
	value, err := tsm.ReadRegister(p.path(tsm.RegisterDir))
	var none *UnsupportedError
	switch {
	case errors.As(err, &none):
		q.note("register", "kernel older than 6.16")
	case err != nil:
		return Quote{}, err
	default:
		q.Register = Register{tsm.Register, value[:]}
	}
	return q, nil
}

// tdBody finds the report body in a quote.
func tdBody(quote []byte) ([]byte, error) {
	if len(quote) < tdShortestReport {
		return nil, fmt.Errorf("a quote of %d bytes", len(quote))
	}
	switch version := binary.LittleEndian.Uint16(quote); version {
	case 4:
		return quote[tdQuoteHeader:], nil
	case 5:
		return quote[tdQuoteHeader+tdQuoteV5Prefix:], nil
	default:
		return nil, fmt.Errorf("a quote of version %d, want 4 or 5", version)
	}
}

func (p *tdxSource) extend(_ context.Context, digest [32]byte) error {
	_, err := tsm.ExtendRegister(p.path(tsm.RegisterDir), RegisterDigest(digest))
	return err
}

func (p *tdxSource) activate(context.Context, []byte, []byte) ([]byte, error) {
	return nil, noActivation(PlatformTDX)
}

// RegisterDigest is what a TD's register is extended by for a SHA-256 digest: the SHA-384 of its 32 bytes. A verifier
// that replays an event log into such a register does the same.
func RegisterDigest(digest [32]byte) [sha512.Size384]byte { return sha512.Sum384(digest[:]) }

// intelEndorsements gathers the collateral of this machine's platform, once a platform.
type intelEndorsements struct {
	settings
	key  endorse.PCK
	held []byte
}

func (i *intelEndorsements) add(ctx context.Context, q *Quote) error {
	if i.endorse == nil {
		q.note("collateral", offline)
		return nil
	}
	key, err := endorse.ReadPCK(q.Report)
	if err != nil {
		return fmt.Errorf("gathering endorsements: %w", err)
	}
	if i.held == nil || i.key != key {
		collateral, err := i.endorse.TDX(ctx, key)
		if err != nil {
			return fmt.Errorf("gathering endorsements: %w", err)
		}
		if i.held, err = collateral.JSON(); err != nil {
			return err
		}
		i.key = key
	}
	q.Collateral = i.held
	return nil
}
