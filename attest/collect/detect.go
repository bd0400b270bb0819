// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kettle/attest/attest/collect/quoteport"
	"github.com/kettle/attest/attest/collect/tpm"
	"github.com/kettle/attest/attest/collect/tsm"
)

const (
	dmiDir    = "/sys/class/dmi/id"
	configTSM = "/sys/kernel/config/tsm/report"

	microsoft = "Microsoft Corporation"
	google    = "Google"
)

// Finding says what this machine looks like with regard to one platform.
type Finding struct {
	Platform string
	Likely   bool
	Reasons  []string // what was seen and what was not, for a person
}

// String gives the finding as one line.
func (f Finding) String() string {
	verdict := "unlikely"
	if f.Likely {
		verdict = "likely"
	}
	return fmt.Sprintf("%s: %s: %s", f.Platform, verdict, strings.Join(f.Reasons, "; "))
}

// Detect looks, without opening any device, at what this machine seems to be, one finding for each platform in a fixed
// order. It is for a person who reads a log. It chooses nothing: what it looks at, the host can forge, and a program
// that follows it lets the host choose the weakest platform.
func Detect() []Finding { return thisMachine().detect() }

func (m machine) detect() []Finding {
	v := m.vendor()
	kernelTSM, device := m.seen(configTSM), m.seen
	sev, td, chip := device(tsm.SEVGuest), device(tsm.TDXGuest), device(tpm.Device)
	isolated := v.microsoft && chip.there && !sev.there && !td.there
	flags := m.cpuFlags()
	return []Finding{
		m.detectSim(),
		finding(PlatformSNP, sev.there, sev, kernelTSM, flags),
		finding(PlatformTDX, td.there, td, kernelTSM, flags),
		finding(PlatformAzSNP, isolated && strings.Contains(flags.text, "AuthenticAMD"), chip, v.observation(), flags),
		finding(PlatformAzTDX, isolated && strings.Contains(flags.text, "GenuineIntel"), chip, v.observation(), flags),
		finding(PlatformVTPM, chip.there, chip, v.observation()),
	}
}

// observation is one thing that was looked for.
type observation struct {
	there bool
	text  string
}

func finding(platform string, likely bool, seen ...observation) Finding {
	f := Finding{Platform: platform, Likely: likely}
	for _, o := range seen {
		f.Reasons = append(f.Reasons, o.text)
	}
	return f
}

func (m machine) seen(path string) observation {
	if _, err := os.Stat(m.path(path)); err != nil {
		return observation{false, "no " + path}
	}
	return observation{true, path + " is there"}
}

func (m machine) detectSim() Finding {
	node, err := findPort(m.path(sysPorts))
	switch {
	case err != nil:
		return Finding{PlatformSim, false, []string{err.Error()}}
	case node == "":
		return Finding{PlatformSim, false, []string{"no virtio-serial port named " + quoteport.PortName}}
	}
	return Finding{PlatformSim, true, []string{"virtio-serial port " + node + " is named " + quoteport.PortName}}
}

// cpuFlags says whose processor it is and what it says of its guest.
func (m machine) cpuFlags() observation {
	words := map[string]bool{}
	for _, w := range strings.Fields(string(readSmall(m.path(cpuInfo)))) {
		words[w] = true
	}
	seen := observation{text: "processor:"}
	for _, w := range []string{"AuthenticAMD", "GenuineIntel", "sev_snp", "sev_es", "sev", "tdx_guest", "hypervisor"} {
		if words[w] {
			seen.there, seen.text = true, seen.text+" "+w
		}
	}
	return seen
}

// vendor is who says that this machine is theirs.
type vendor struct {
	text              string
	microsoft, google bool
}

func (v vendor) observation() observation {
	return observation{v.text != "", fmt.Sprintf("the firmware names the machine %q", v.text)}
}

// vendor reads the machine's name from its firmware's tables. The host writes them: they decide whom to ask for public
// documents, and nothing else.
func (m machine) vendor() vendor {
	read := func(name string) string {
		return strings.TrimSpace(string(readSmall(filepath.Join(m.path(dmiDir), name))))
	}
	maker, product := read("sys_vendor"), read("product_name")
	return vendor{
		text: fmt.Sprintf("%.80s", strings.TrimSpace(maker+" "+product)), microsoft: maker == microsoft,
		google: strings.HasPrefix(maker, google) || strings.HasPrefix(product, google),
	}
}
