// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/kettle/attest/attest/collect/endorse"
	"github.com/kettle/attest/attest/collect/fetch"
	"github.com/kettle/attest/attest/snp"
)

const (
	offline = "the program is configured not to fetch anything"
	cpuInfo = "/proc/cpuinfo"

	maxSmallFile = 1 << 20
)

// amdEndorsements gathers what AMD says about the key that signs this machine's reports, once a key: a firmware update
// of the host while the machine runs makes another key.
type amdEndorsements struct {
	settings
	key  endorse.AMDKey
	held *Quote // what was gathered for key: Endorsements, Revocations and the Notes of both
}

// add puts the endorsements into a quote.
func (a *amdEndorsements) add(ctx context.Context, q *Quote, table *snp.CertTable) error {
	key, err := endorse.ReadAMDKey(q.Report)
	if err != nil && !errors.Is(err, endorse.ErrNoChip) {
		return err
	}
	if key.Line == "" {
		key.Line = a.lineOfCPU()
	}
	if a.held == nil || a.key != key {
		held := &Quote{Report: q.Report}
		if err := a.gather(ctx, held, key, table); err != nil {
			return err
		}
		a.key, a.held = key, held
	}
	q.Endorsements, q.Revocations = a.held.Endorsements, a.held.Revocations
	q.Notes = append(q.Notes, a.held.Notes...)
	return nil
}

func (a *amdEndorsements) gather(ctx context.Context, q *Quote, key endorse.AMDKey, table *snp.CertTable) error {
	leaf, err := a.leaf(ctx, q, key, table)
	if err != nil {
		return err
	}
	if len(leaf) != 0 {
		q.Endorsements = pemOf(leaf)
	}
	if err := a.chain(ctx, q, key, table); err != nil {
		return err
	}
	return a.revocations(ctx, q, key, table)
}

// leaf gives the endorsement key's certificate: the host's, if it fits the report, else AMD's.
func (a *amdEndorsements) leaf(ctx context.Context, q *Quote, key endorse.AMDKey, table *snp.CertTable) ([]byte, error) {
	leaf, hosts := table.Leaf(q.Report)
	if hosts == nil {
		hosts = key.Fits(leaf)
	}
	if hosts == nil {
		return leaf, nil
	}
	switch {
	case a.endorse == nil && leaf != nil:
		q.note("endorsement that fits", fmt.Sprintf("%v; %s", hosts, offline))
		return leaf, nil
	case a.endorse == nil:
		q.note("endorsements", fmt.Sprintf("%v; %s", hosts, offline))
		return nil, nil
	case key.VLEK:
		return nil, fmt.Errorf("gathering endorsements: the report is signed by a VLEK, which only the provider's host can bring: %w", hosts)
	}
	fetched, err := a.endorse.VCEK(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("gathering endorsements: %w", errors.Join(err, hosts))
	}
	return fetched, nil
}

// chain adds the intermediate and the root. The verifier has its own; these are for other programs.
func (a *amdEndorsements) chain(ctx context.Context, q *Quote, key endorse.AMDKey, table *snp.CertTable) error {
	if len(q.Endorsements) == 0 {
		return nil
	}
	if chain := tableChain(table); len(chain) != 0 {
		q.Endorsements = append(q.Endorsements, chain...)
		return nil
	}
	if a.endorse == nil || key.Line == "" {
		q.note("intermediates", offline+", and the host gave none")
		return nil
	}
	chain, err := a.endorse.AMDChain(ctx, key)
	if err != nil {
		return optional(ctx, q, "intermediates", err)
	}
	q.Endorsements = append(q.Endorsements, chain...)
	return nil
}

// tableChain gives the host's ASK and ARK in PEM, or nothing unless it has both.
func tableChain(table *snp.CertTable) []byte {
	var chain []byte
	for _, cert := range [][]byte{table.ASK, table.ARK} {
		if len(cert) == 0 {
			return nil
		}
		if block, _ := pem.Decode(cert); block != nil {
			cert = block.Bytes
		}
		chain = append(chain, pemOf(cert)...)
	}
	return chain
}

func (a *amdEndorsements) revocations(ctx context.Context, q *Quote, key endorse.AMDKey, table *snp.CertTable) error {
	if a.endorse != nil && key.Line != "" {
		list, err := a.endorse.AMDCRL(ctx, key)
		if err == nil {
			q.Revocations = [][]byte{list}
			return nil
		}
		if len(table.CRL) == 0 {
			return optional(ctx, q, "revocations", err)
		}
	}
	if len(table.CRL) == 0 {
		q.note("revocations", offline+", and the host gave none")
		return nil
	}
	q.Revocations = [][]byte{table.CRL}
	return nil
}

// optional makes a note of a document that a verifier may do without; the caller's own end is an error all the same.
func optional(ctx context.Context, q *Quote, item string, err error) error {
	if ctx.Err() != nil || !errors.Is(err, fetch.ErrUnavailable) {
		return err
	}
	q.note(item, err.Error())
	return nil
}

// lineOfCPU gives the product line of this machine's processor for a report that does not name it; "" if it is none
// that is known. It decides only whom to ask.
func (a *amdEndorsements) lineOfCPU() endorse.Line {
	var family, model uint64
	for line := range bytes.Lines(readSmall(a.path(cpuInfo))) {
		name, value, _ := strings.Cut(string(line), ":")
		n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 8)
		switch {
		case err != nil:
		case strings.TrimSpace(name) == "cpu family":
			family = n
		case strings.TrimSpace(name) == "model":
			model = n
		}
		if len(bytes.TrimSpace(line)) == 0 {
			break // the first processor is enough
		}
	}
	line, _ := endorse.LineOf(uint8(family), uint8(model))
	return line
}

// fetchLaunch adds Google's endorsement of a firmware, on a machine that says it is Google's.
func (s settings) fetchLaunch(ctx context.Context, q *Quote, t endorse.Technology, measurement []byte) error {
	if !s.vendor().google {
		return nil
	}
	if s.endorse == nil {
		q.note("launch", offline)
		return nil
	}
	var err error
	if q.Launch, err = s.endorse.Launch(ctx, t, measurement); err != nil {
		return optional(ctx, q, "launch", err)
	}
	return nil
}

// readSmall reads the beginning of a file of the kernel's that is only a hint; nothing if it cannot.
func readSmall(path string) []byte {
	f, err := os.Open(path) //nolint:gosec // The kernel's own files.
	if err != nil {
		return nil
	}
	defer f.Close()
	b := make([]byte, maxSmallFile)
	n, _ := f.Read(b) // the kernel gives these files at once
	return b[:n]
}
