// SPDX-License-Identifier: Apache-2.0

// Package config reads kettled's configuration: one closed YAML file that is part of the measured image.
//
// It guarantees that a configuration it returns is complete and that every key of the file was understood: an unknown
// key, a missing value and a value out of range are refused, all faults at once. No credential is ever in it. It
// trusts its bytes, whose digest is on the measured command line.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/image/registry"
)

// Schema is the schema of the file.
const Schema = "kettle.config/v1"

// MaxFile bounds the file in bytes.
const MaxFile = 64 << 10

// Config is the whole configuration.
type Config struct {
	Schema     string     `yaml:"schema"`
	GitHub     GitHub     `yaml:"github"`
	Image      Image      `yaml:"image"`
	Credential Credential `yaml:"credential"`
	Sandbox    Sandbox    `yaml:"sandbox"`
	Egress     Egress     `yaml:"egress"`
	Policy     string     `yaml:"policy"` // file beside the configuration
	Sink       Sink       `yaml:"sink"`
	Timeouts   Timeouts   `yaml:"timeouts"`
	Platforms  Platforms  `yaml:"platforms"`
	Network    Network    `yaml:"network"`

	digest binding.Digest
}

// GitHub says where the runner registers and which hosts it may talk to.
type GitHub struct {
	URL         string   `yaml:"url"`              // https://github.com
	APIURL      string   `yaml:"apiUrl"`           // https://api.github.com
	Issuer      string   `yaml:"issuer"`           // of the OIDC tokens
	Scope       string   `yaml:"scope"`            // repo, org or enterprise
	Target      string   `yaml:"target"`           // owner/repository, organisation or enterprise
	Owners      []string `yaml:"owners,omitempty"` // of an enterprise: the accounts whose jobs are taken
	Registrar   string   `yaml:"registrar"`        // rest: one runner by the REST API; scale-set: in a scale set of this machine's own
	RunnerGroup int64    `yaml:"runnerGroup"`
	Labels      []string `yaml:"labels"`
	Hosts       []string `yaml:"hosts"`           // every host that kettled and the runner may reach, exact names
	Roots       []string `yaml:"roots,omitempty"` // PEM files of a private CA, beside the configuration
}

// Image says whose word this machine takes for the image that it runs from. Who may have built it says the section
// environments of the policy.
type Image struct {
	Bundle      string        `yaml:"bundle"`          // where the image's own bundle is: partition, an https URL that answers with it, or oci://registry/owner/name
	Roots       []string      `yaml:"roots,omitempty"` // PEM files of the authority of that URL or registry, beside the configuration
	TrustedRoot string        `yaml:"trustedRoot"`     // file beside the configuration: Sigstore's trusted_root.json
	MaxAge      time.Duration `yaml:"maxAge"`          // since the image was signed; after it the machine does not start any more
}

// BundlePartition is the word for the image's bundle partition.
const BundlePartition = "partition"

// Credential says where the registration credential comes from. It is never in a file of the image.
type Credential struct {
	From  string   `yaml:"from"`            // admission, or launcher: over the launcher's port, without anybody having appraised this machine
	URL   string   `yaml:"url,omitempty"`   // of the admission server
	Roots []string `yaml:"roots,omitempty"` // PEM files of its TLS authority, beside the configuration; never the system's
	Keys  []string `yaml:"keys,omitempty"`  // PEM files of the public keys that sign admissions (VSA-ENV)
}

// The sources of a credential.
const (
	FromAdmission = "admission"
	FromLauncher  = "launcher"
)

// Sandbox bounds the job.
type Sandbox struct {
	Profile string `yaml:"profile"` // strict or docker
	Init    string `yaml:"init"`    // the sandbox's first process: small, or systemd for jobs that call systemctl
	Scratch string `yaml:"scratch"` // where all lies that the job writes: memory, or disk, the host's, encrypted and authenticated
	Limits  Limits `yaml:"limits"`
}

// Limits of the sandbox and of one response.
type Limits struct {
	MemoryMiB  int64         `yaml:"memoryMiB"`
	Processes  int64         `yaml:"processes"`
	CPUs       float64       `yaml:"cpus"`      // of the machine's; fractions count
	DiskMiB    int64         `yaml:"diskMiB"`   // all that the job may write, to the place that scratch names
	IOMiBps    int64         `yaml:"ioMiBps"`   // to and from that disk, each, in a second
	OutputMiB  int64         `yaml:"outputMiB"` // bytes that one response may hash
	FreezeTime time.Duration `yaml:"freezeTime"`
}

// Egress says what the job may reach.
type Egress struct {
	BeforeDispatch string `yaml:"beforeDispatch"` // github-only
	After          After  `yaml:"after"`
}

// After says what the job may reach beyond github.hosts once it is dispatched.
type After struct {
	Mode  string  `yaml:"mode"`            // none; allow: what is listed; audit: every public host
	Allow []Allow `yaml:"allow,omitempty"` // for mode allow
}

// Allow lets the job reach some ports of a host.
type Allow struct {
	Host     string `yaml:"host"`     // an exact name, or *.name for every name below it
	Ports    []int  `yaml:"ports"`    //
	Protocol string `yaml:"protocol"` // tls: the server name must be the host's; http: likewise each request; tcp: anything
}

// Sink says where the record goes.
type Sink struct {
	URL   string   `yaml:"url"`
	Roots []string `yaml:"roots,omitempty"`
}

// Timeouts of the phases.
type Timeouts struct {
	Register time.Duration `yaml:"register"` // all tries to register, together
	Listen   time.Duration `yaml:"listen"`   // for the runner program to connect; for a job that GitHub gave it to reach its hook
	Ghost    time.Duration `yaml:"ghost"`    // that GitHub may not know a runner that waits for a job
	Idle     time.Duration `yaml:"idle"`     // waiting for a job
	Job      time.Duration `yaml:"job"`      // running it
	Drain    time.Duration `yaml:"drain"`    // for a job to end once the environment is asked to
}

func (t Timeouts) validate(f *faults) {
	for name, d := range map[string]time.Duration{
		"register": t.Register, "listen": t.Listen, "ghost": t.Ghost, "idle": t.Idle, "job": t.Job, "drain": t.Drain,
	} {
		f.check(d > 0, "timeouts.%s is missing", name)
	}
	f.check(t.Job <= maxJob, "timeouts.job is %s: GitHub ends a job after %s", t.Job, maxJob)
}

// Platforms says which secure processors this image accepts for itself.
type Platforms struct {
	Allowed []string `yaml:"allowed"`         // snp, sim
	Roots   []string `yaml:"roots,omitempty"` // PEM files of private roots, beside the configuration
}

// Network is the machine's one interface. The host can lie about it; nothing is trusted for travelling on it.
type Network struct {
	Address string            `yaml:"address"` // 10.0.2.15/24
	Gateway string            `yaml:"gateway,omitempty"`
	Resolve map[string]string `yaml:"resolve,omitempty"`     // fixed addresses of hosts
	Servers []string          `yaml:"nameServers,omitempty"` // addresses; at most three
}

// Parse reads a configuration file.
func Parse(b []byte) (*Config, error) {
	if len(b) > MaxFile {
		return nil, fmt.Errorf("configuration has %d bytes, at most %d are allowed", len(b), MaxFile)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	c := new(Config)
	if err := dec.Decode(c); err != nil {
		return nil, fmt.Errorf("decoding configuration: %w", err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("configuration has more than one YAML document")
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.digest = binding.Sum(b)
	return c, nil
}

// Digest is the SHA-256 of the file's bytes, as on the measured command line.
func (c *Config) Digest() binding.Digest { return c.digest }

// Bounds on the limits.
const (
	maxServers   = 3 // resolv.conf(5)
	leastCPUs    = 0.1
	maxCPUs      = 4096
	leastDiskMiB = 256 // with less, the file system cannot be made
	maxFreeze    = 50 * time.Second
	maxJob       = 5 * 24 * time.Hour // of self-hosted runners (docs.github.com, “Usage limits”)
)

// maxMiB is more than any machine has, and few enough to be counted in bytes.
const maxMiB = 1 << 30

var (
	fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`)
)

// maxHost is the longest host name in bytes (RFC 1035, section 2.3.4, as text).
const maxHost = 253

func isHost(name string) bool { return len(name) <= maxHost && hostName.MatchString(name) }

// Validate reports every fault.
func (c *Config) Validate() error {
	var f faults
	f.check(c.Schema == Schema, "schema is %q, want %q", c.Schema, Schema)
	c.GitHub.validate(&f)
	c.Image.validate(&f)
	c.Credential.validate(&f)
	c.Sandbox.validate(&f)
	c.Egress.validate(&f)
	f.check(fileName.MatchString(c.Policy), "policy %q is not a file name beside the configuration", c.Policy)
	f.check(c.Sink.URL != "", "sink.url is missing")
	c.Timeouts.validate(&f)
	f.check(len(c.Platforms.Allowed) > 0, "platforms.allowed is empty")
	for _, p := range c.Platforms.Allowed {
		f.check(slices.Contains([]string{"snp", "tdx", "az-snp", "az-tdx", "sim"}, p), "platform %q is not known", p)
	}
	f.check(!slices.Contains(c.Platforms.Allowed, "sim") || len(c.Platforms.Roots) > 0, `platform "sim" needs platforms.roots`)
	for _, name := range slices.Concat(c.GitHub.Roots, c.Sink.Roots, c.Platforms.Roots, c.Image.Roots, c.Credential.Roots, c.Credential.Keys) {
		f.check(fileName.MatchString(name), "roots file %q is not a file name beside the configuration", name)
	}
	c.Network.validate(&f)
	c.names(&f)
	return f.err()
}

func (g GitHub) validate(f *faults) {
	for name, raw := range map[string]string{"url": g.URL, "apiUrl": g.APIURL, "issuer": g.Issuer} {
		ok := isHTTPS(raw)
		f.check(ok, "github.%s %q is not an https URL", name, raw)
		if u, err := url.Parse(raw); ok && err == nil {
			f.check(slices.Contains(g.Hosts, u.Hostname()), "github.hosts lacks the host of github.%s", name)
		}
	}
	owner, repo, slash := strings.Cut(g.Target, "/")
	account := !slash && owner != ""
	f.check(g.Scope == "repo" && slash && owner != "" && repo != "" && !strings.Contains(repo, "/") || g.Scope == "org" && account ||
		g.Scope == "enterprise" && account,
		"github.scope %q with target %q: want repo with owner/repository, org with an organisation, or enterprise with one", g.Scope, g.Target)
	f.check((g.Scope == "enterprise") == (len(g.Owners) > 0) && !slices.Contains(g.Owners, ""),
		"github.owners: an enterprise needs the names of the accounts whose jobs are taken, and nothing else has them")
	f.check(g.Registrar == "rest" || g.Registrar == "scale-set", `github.registrar is %q, want "rest" or "scale-set"`, g.Registrar)
	f.check(g.RunnerGroup > 0, "github.runnerGroup is missing")
	f.check(len(g.Labels) > 0 && len(g.Labels) <= 100 && !slices.Contains(g.Labels, ""), "github.labels needs 1 to 100 labels, none of them empty")
	for _, h := range g.Hosts {
		f.check(isHost(h), "github.hosts: %q is not an exact host name", h)
	}
}

// maxImageAge is the longest life of an image: after a year nobody knows what was found in it since.
const maxImageAge = 366 * 24 * time.Hour

// InRegistry reports whether the bundle is to be taken from an OCI registry.
func (i Image) InRegistry() bool { return strings.HasPrefix(i.Bundle, registry.Scheme) }

func (i Image) validate(f *faults) {
	if i.InRegistry() {
		_, err := registry.Parse(i.Bundle)
		f.check(err == nil, "image.bundle: %w", err)
	} else {
		f.check(i.Bundle == BundlePartition || isHTTPS(i.Bundle),
			"image.bundle %q is neither partition nor an https URL nor %sregistry/owner/name", i.Bundle, registry.Scheme)
	}
	f.check(i.Bundle != BundlePartition || len(i.Roots) == 0, "image.roots is for a URL or a registry")
	f.check(fileName.MatchString(i.TrustedRoot), "image.trustedRoot %q is not a file name beside the configuration", i.TrustedRoot)
	f.check(i.MaxAge > 0 && i.MaxAge <= maxImageAge, "image.maxAge is %s, want more than zero and at most %s", i.MaxAge, maxImageAge)
}

func (c Credential) validate(f *faults) {
	switch c.From {
	case FromAdmission:
		f.check(isHTTPS(c.URL), "credential.url %q is not an https URL", c.URL)
		f.check(len(c.Roots) > 0, "credential.roots is missing: the admission server's authority is pinned")
		f.check(len(c.Keys) > 0, "credential.keys is missing: who may admit this machine")
	case FromLauncher:
		f.check(c.URL == "" && len(c.Roots) == 0 && len(c.Keys) == 0, "credential from the launcher has no url, roots or keys")
	default:
		f.check(false, `credential.from is %q, want "admission" or "launcher"`, c.From)
	}
}

// isHTTPS reports whether raw is a plain https URL, without a user, a query or a fragment.
func isHTTPS(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

func (s Sandbox) validate(f *faults) {
	f.check(s.Profile == "strict" || s.Profile == "docker", `sandbox.profile is %q, want "strict" or "docker"`, s.Profile)
	f.check(s.Init == "small" || s.Init == "systemd", `sandbox.init is %q, want "small" or "systemd"`, s.Init)
	f.check(s.Scratch == "memory" || s.Scratch == "disk", `sandbox.scratch is %q, want "memory" or "disk"`, s.Scratch)
	l := s.Limits
	f.check(l.MemoryMiB > 0 && l.Processes > 0 && l.DiskMiB > 0 && l.IOMiBps > 0 && l.OutputMiB > 0 && l.FreezeTime > 0,
		"sandbox.limits needs memoryMiB, processes, diskMiB, ioMiBps, outputMiB and freezeTime above zero")
	f.check(l.DiskMiB >= leastDiskMiB, "sandbox.limits.diskMiB is %d, want at least %d", l.DiskMiB, leastDiskMiB)
	f.check(l.CPUs >= leastCPUs && l.CPUs <= maxCPUs, "sandbox.limits.cpus is %v, want %v to %v", l.CPUs, leastCPUs, maxCPUs)
	f.check(max(l.MemoryMiB, l.OutputMiB, l.DiskMiB, l.IOMiBps) <= maxMiB,
		"sandbox.limits: memoryMiB, diskMiB, ioMiBps and outputMiB are at most %d", maxMiB)
	f.check(l.FreezeTime <= maxFreeze,
		"sandbox.limits.freezeTime is %s: at most %s, since the runner renews its hold on the job every minute", l.FreezeTime, maxFreeze)
}

func (e Egress) validate(f *faults) {
	f.check(e.BeforeDispatch == "github-only", `egress.beforeDispatch is %q, want "github-only"`, e.BeforeDispatch)
	switch e.After.Mode {
	case "none", "audit":
		f.check(len(e.After.Allow) == 0, "egress.after.allow has entries, and mode %s does not read them", e.After.Mode)
	case "allow":
		f.check(len(e.After.Allow) > 0, "egress.after.allow is empty: write hosts, or mode none")
	default:
		f.check(false, `egress.after.mode is %q, want "none", "allow" or "audit"`, e.After.Mode)
	}
	for _, a := range e.After.Allow {
		f.check(isHost(strings.TrimPrefix(a.Host, "*.")), "egress.after.allow: %q is neither a host name nor *.name", a.Host)
		f.check(a.Protocol == "tls" || a.Protocol == "http" || a.Protocol == "tcp",
			`egress.after.allow of %s: protocol is %q, want "tls", "http" or "tcp"`, a.Host, a.Protocol)
		f.check(len(a.Ports) > 0, "egress.after.allow of %s has no ports", a.Host)
		for _, port := range a.Ports {
			f.check(port > 0 && port < 1<<16, "egress.after.allow of %s: %d is not a port", a.Host, port)
		}
	}
}

// names demands a name server where a host's address is not fixed.
func (c *Config) names(f *faults) {
	if len(c.Network.Servers) > 0 {
		return
	}
	f.check(c.Egress.After.Mode == "none", "network.nameServers is missing: egress.after %s names hosts without an address", c.Egress.After.Mode)
	for _, h := range c.GitHub.Hosts {
		_, fixed := c.Network.Resolve[h]
		f.check(fixed, "network.nameServers is missing, and network.resolve lacks %s", h)
	}
}

func (n Network) validate(f *faults) {
	_, err := netip.ParsePrefix(n.Address)
	f.check(err == nil, "network.address %q is not an address with a prefix length", n.Address)
	if n.Gateway != "" {
		_, err := netip.ParseAddr(n.Gateway)
		f.check(err == nil, "network.gateway %q is not an address", n.Gateway)
	}
	f.check(len(n.Servers) <= maxServers, "network.nameServers has %d entries, at most %d are asked", len(n.Servers), maxServers)
	for _, server := range n.Servers {
		_, err := netip.ParseAddr(server)
		f.check(err == nil, "network.nameServers: %q is not an address", server)
	}
	for host, addr := range n.Resolve {
		f.check(isHost(host), "network.resolve: %q is not an exact host name", host)
		_, err := netip.ParseAddr(addr)
		f.check(err == nil, "network.resolve of %s: %q is not an address", host, addr)
	}
}

// faults collects what is wrong, so that an operator sees all of it.
type faults []error

func (f *faults) check(ok bool, format string, args ...any) {
	if !ok {
		*f = append(*f, fmt.Errorf(format, args...))
	}
}

func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return fmt.Errorf("configuration refused: %w", errors.Join(f...))
}
