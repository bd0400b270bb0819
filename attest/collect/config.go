// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"context"
	"path/filepath"
	"time"

	"github.com/kettle/attest/attest/collect/azure"
	"github.com/kettle/attest/attest/collect/endorse"
	"github.com/kettle/attest/attest/collect/fetch"
	"github.com/kettle/attest/attest/collect/tpm"
	"github.com/kettle/attest/attest/collect/tsm"
)

// Config is how evidence is collected. Its zero value asks this machine's devices, quotes all registers of a TPM and
// fetches endorsements from their makers with the proxy of the environment.
type Config struct {
	// Level is the privilege level (VMPL) to ask at on SEV-SNP; nil for the most privileged that the kernel may.
	Level *uint
	// Service asks a service of the guest's SVSM to speak in the report; nil for none.
	Service *tsm.Service
	// PCRs are the registers that a TPM quotes, ascending; nil for all 24.
	PCRs []int
	// Offline keeps the program from fetching anything from the makers. Then the quote has only the endorsements that
	// the platform itself brings, and a verifier needs the rest from elsewhere.
	Offline bool
	// Fetch is how documents of the makers are fetched, Endorse from where.
	Fetch   fetch.Config
	Endorse endorse.Config
	// Host is the address of Azure's services on this machine's host; empty for Azure's own.
	Host string
}

// settings is a configuration with the machine it is for.
type settings struct {
	Config
	machine
	endorse *endorse.Client // nil when offline
	host    *azure.Host
}

// machine is the edge to the kernel. Tests put another one in its place.
type machine struct {
	root  string // before every path of the kernel's
	tsm   func(tsm.Provider) (tsm.Files, error)
	guest func(p tsm.Provider, path string) (tsm.Guest, error)
	tpm   func(platform, path string) (*tpm.TPM, error)
	sleep func(context.Context, time.Duration) error
}

func thisMachine() machine {
	return machine{root: "/", tsm: tsm.Client, guest: tsm.OpenGuest, tpm: tpm.Open, sleep: fetch.Sleep}
}

// on joins the configuration with a machine and fills in what it leaves open.
func (c Config) on(m machine) settings {
	s := settings{Config: c, machine: m}
	if s.PCRs == nil {
		for i := range 24 {
			s.PCRs = append(s.PCRs, i)
		}
	}
	if !c.Offline {
		s.endorse = endorse.New(fetch.New(c.Fetch), c.Endorse)
	}
	if s.Host == "" {
		s.Host = azure.DefaultHost
	}
	direct := c.Fetch
	// The host's services have an address that only this machine's host answers: a proxy would be somebody else.
	direct.Transport, direct.Cache = fetch.Direct(), fetch.NewMemory()
	s.host = azure.NewHost(fetch.New(direct), s.Host)
	return s
}

// path gives a path of the kernel's on this machine.
func (m machine) path(p string) string { return filepath.Join(m.root, p) }
