// SPDX-License-Identifier: Apache-2.0

// Package tsm asks the kernel of a confidential VM for evidence: through configfs-tsm
// (/sys/kernel/config/tsm/report, Linux 6.7), through the vendors' devices where the kernel has no configfs-tsm, and
// through the measurement registers of a TD (Linux 6.16).
//
// It guarantees that a [Report] was answered to the report data asked for as far as the kernel can tell: the entry is
// of this call alone, its generation did not move under it, its provider is the one asked for, and the entry is removed
// again whatever happens. It tells "this kernel has no such interface" ([fault.ErrUnsupported]) from "it has, and it
// failed" ([fault.ErrBroken]); only the first leads to the older devices, so that nobody who makes configfs-tsm fail
// chooses the interface. It trusts the kernel. It verifies no signature.
//
// Sources: Linux Documentation/ABI/testing/configfs-tsm-report, Documentation/virt/coco/sev-guest.rst,
// include/uapi/linux/sev-guest.h, include/uapi/linux/tdx-guest.h, Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest.
package tsm

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/linuxtsm"
	"github.com/google/go-configfs-tsm/report"

	"github.com/kettle/attest/attest/collect/fault"
)

// Provider is the kernel's name for what signs the reports.
type Provider string

// The providers of Linux, without the newline that the kernel writes after them.
const (
	SNP Provider = "sev_guest"
	TDX Provider = "tdx_guest"
)

// platform is what the project calls a machine whose reports are of this provider.
func (p Provider) platform() string {
	switch p {
	case SNP:
		return "snp"
	case TDX:
		return "tdx"
	}
	return string(p)
}

// Sizes of what the kernel reads and writes.
const (
	ReportDataSize = 64
	maxOut         = 16 << 20 // far more than any kernel gives; what is longer is no report
)

// Request is what to ask for.
type Request struct {
	Provider   Provider
	ReportData [ReportDataSize]byte
	// Level is the privilege level (VMPL) that asks; nil for the most privileged that this kernel may ask at. Only
	// SEV-SNP has levels.
	Level *uint
	// Service asks a service of the guest's paravisor to speak in the report; nil for none.
	Service *Service
}

// Service names a service of an SVSM (Linux 6.11; "Secure VM Service Module for SEV-SNP Guests", section 7).
type Service struct {
	Provider        string // "svsm"
	GUID            string // empty for all services
	ManifestVersion string // empty for the service's own default
}

// Report is what the kernel answered.
type Report struct {
	Provider Provider
	Out      []byte // SEV-SNP report or TDX quote
	Aux      []byte // certificate table of the host, empty where there is none
	Manifest []byte // manifest of the service asked for, empty without one
	Level    *uint  // the level asked at, nil where there are none
	Via      string // the interface: "configfs-tsm", "/dev/sev-guest", "/dev/tdx_guest"
}

// Files is the file operations of configfs-tsm: the kernel's, or a stand-in's.
type Files = configfsi.Client

// Client gives the kernel's configfs-tsm. A kernel without it is a [fault.UnsupportedError].
func Client(p Provider) (Files, error) {
	c, err := linuxtsm.MakeClient()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, absent(p)
	}
	if err != nil {
		return nil, fault.Broken("opening configfs-tsm", err)
	}
	return c, nil
}

func absent(p Provider) error {
	return &fault.UnsupportedError{Platform: p.platform(), Need: "configfs-tsm (/sys/kernel/config/tsm/report, Linux 6.7 or later, configfs mounted)"}
}

// Get asks configfs-tsm for one report.
func Get(client Files, r Request) (Report, error) {
	c := &witness{Files: client}
	open, err := report.Create(c, &report.Request{InBlob: r.ReportData[:], GetAuxBlob: r.Provider == SNP})
	if err != nil {
		switch {
		case errors.Is(c.last, syscall.ENXIO): // Linux, drivers/virt/coco/guest/report.c: no provider is registered
			return Report{}, &fault.UnsupportedError{Platform: r.Provider.platform(), Need: "a kernel driver that makes reports (sev-guest or tdx-guest); configfs-tsm has none"}
		case errors.Is(c.last, fs.ErrNotExist):
			return Report{}, absent(r.Provider)
		}
		return Report{}, fault.Broken("making an entry in configfs-tsm", c.cause(err))
	}
	out, err := get(open, r)
	if err != nil && !errors.Is(err, fault.ErrUnsupported) {
		err = fault.Broken("asking configfs-tsm for a report", c.cause(err))
	}
	// The entry is removed on every path; one that stays is the kernel's memory and a name for others to write to.
	if gone := open.Destroy(); gone != nil {
		err = errors.Join(err, fault.Broken("removing an entry of configfs-tsm", gone))
	}
	if err != nil {
		return Report{}, err
	}
	return out, nil
}

func get(open *report.OpenReport, r Request) (Report, error) {
	name, err := open.ReadOption("provider")
	if err != nil {
		return Report{}, err
	}
	if got := strings.TrimSuffix(string(name), "\n"); got != string(r.Provider) {
		return Report{}, &fault.UnsupportedError{Platform: r.Provider.platform(), Need: fmt.Sprintf("configfs-tsm to be of provider %s, here it is of %.40q", r.Provider, got)}
	}
	out := Report{Provider: r.Provider, Via: "configfs-tsm"}
	if r.Provider == SNP {
		level, err := levelOf(open, r.Level)
		if err != nil {
			return Report{}, err
		}
		open.Privilege, out.Level = &report.Privilege{Level: level}, &level
	}
	if s := r.Service; s != nil {
		open.ServiceProvider, open.ServiceGuid, open.ServiceManifestVersion = s.Provider, s.GUID, s.ManifestVersion
	}
	answer, err := open.Get()
	if err != nil {
		return Report{}, err
	}
	if answer.Provider != string(name) {
		return Report{}, fmt.Errorf("the provider changed from %.40q to %.40q", name, answer.Provider)
	}
	if len(answer.OutBlob) == 0 || max(len(answer.OutBlob), len(answer.AuxBlob), len(answer.ManifestBlob)) > maxOut {
		return Report{}, fmt.Errorf("a report of %d bytes with %d and %d bytes beside it", len(answer.OutBlob), len(answer.AuxBlob), len(answer.ManifestBlob))
	}
	if r.Service != nil && len(answer.ManifestBlob) == 0 {
		return Report{}, errors.New("the service gave no manifest")
	}
	out.Out, out.Aux, out.Manifest = answer.OutBlob, answer.AuxBlob, answer.ManifestBlob
	return out, nil
}

// levelOf picks the level to ask at and demands that the kernel may ask there.
func levelOf(open *report.OpenReport, want *uint) (uint, error) {
	floor, err := open.PrivilegeLevelFloor()
	if err != nil {
		return 0, err
	}
	if want == nil {
		return floor, nil
	}
	if *want < floor {
		return 0, fmt.Errorf("privilege level %d is asked for, this kernel may ask at level %s and above", *want, strconv.FormatUint(uint64(floor), 10))
	}
	return *want, nil
}

// witness keeps the last error of a client, because package report flattens errors to text.
type witness struct {
	Files
	last error
}

// cause gives err, and beneath it the client's own error where there was one.
func (w *witness) cause(err error) error {
	if w.last == nil || errors.Is(err, w.last) {
		return err
	}
	return fmt.Errorf("%w (%w)", err, w.last)
}

// MkdirTemp implements [configfsi.Client].
func (w *witness) MkdirTemp(dir, pattern string) (string, error) {
	name, err := w.Files.MkdirTemp(dir, pattern)
	w.last = err
	return name, err
}

// ReadFile implements [configfsi.Client].
func (w *witness) ReadFile(name string) ([]byte, error) {
	data, err := w.Files.ReadFile(name)
	w.last = err
	return data, err
}

// WriteFile implements [configfsi.Client].
func (w *witness) WriteFile(name string, contents []byte) error {
	err := w.Files.WriteFile(name, contents)
	w.last = err
	return err
}
