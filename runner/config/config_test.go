// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kettle/attest/attest/binding"
)

const good = `schema: kettle.config/v1
github:
  url: https://github.example
  apiUrl: https://api.github.example:8443/api/v3
  issuer: https://token.github.example
  scope: repo
  target: acme/widget
  registrar: rest
  runnerGroup: 1
  labels: [attested-cvm]
  hosts: [github.example, api.github.example, token.github.example]
  roots: [github-ca.pem]
image: {bundle: partition, trustedRoot: sigstore.json, maxAge: 2160h}
credential: {from: admission, url: "https://dispatch.example:8444/admit", roots: [dispatch-ca.pem], keys: [operator.pem]}
sandbox:
  profile: strict
  init: small
  scratch: memory
  limits: {memoryMiB: 2048, processes: 1024, cpus: 1.5, diskMiB: 8192, ioMiBps: 1000, outputMiB: 4096, freezeTime: 45s}
egress:
  beforeDispatch: github-only
  after: {mode: allow, allow: [{host: "*.debian.example", ports: [80, 8080], protocol: http}]}
policy: policy.yaml
sink:
  url: https://records.example/records
  roots: [sink-ca.pem]
timeouts: {register: 60s, listen: 2m, ghost: 60s, idle: 5m, job: 6h, drain: 10m}
platforms: {allowed: [snp, sim], roots: [simulator.pem]}
network:
  address: 10.0.2.15/24
  gateway: 10.0.2.2
  resolve: {github.example: 10.0.2.100}
  nameServers: [10.0.2.3]
`

const after = `  after: {mode: allow, allow: [{host: "*.debian.example", ports: [80, 8080], protocol: http}]}
`

func TestParse(t *testing.T) {
	t.Parallel()
	c, err := Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if c.Digest() != binding.Sum([]byte(good)) || c.Timeouts.Job != 6*time.Hour || c.Sandbox.Limits.FreezeTime != 45*time.Second || c.Sandbox.Limits.CPUs != 1.5 || c.Network.Resolve["github.example"] != "10.0.2.100" {
		t.Errorf("got %+v", c)
	}
	org := strings.NewReplacer("scope: repo", "scope: org", "acme/widget", "acme", "  roots: [github-ca.pem]\n", "", "  gateway: 10.0.2.2\n", "").Replace(good)
	if _, err := Parse([]byte(org)); err != nil {
		t.Error(err)
	}
	enterprise := strings.NewReplacer("scope: repo", "scope: enterprise\n  owners: [acme, other]", "acme/widget", "big", "registrar: rest", "registrar: scale-set").Replace(good)
	if c, err := Parse([]byte(enterprise)); err != nil || len(c.GitHub.Owners) != 2 {
		t.Error(err)
	}
}

// TestRefused breaks one thing at a time. Each error must name what is wrong.
func TestRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ old, broken, says string }{
		"other schema":              {"kettle.config/v1", "kettle.config/v2", "schema"},
		"no schema":                 {"schema: kettle.config/v1\n", "", "schema"},
		"unknown key":               {"policy: policy.yaml", "policy: policy.yaml\nsecret: x", "secret"},
		"unknown key below":         {"  scope: repo", "  scope: repo\n  token: x", "token"},
		"key in other case":         {"policy:", "Policy:", "Policy"},
		"key twice":                 {"policy: policy.yaml", "policy: policy.yaml\npolicy: other.yaml", "already"},
		"wrong type":                {"runnerGroup: 1", "runnerGroup: one", "line 9"},
		"two documents":             {"schema:", "schema: kettle.config/v1\n---\nschema:", "document"},
		"second document":           {"10.0.2.3]\n", "10.0.2.3]\n---\n{}\n", "document"},
		"broken tail":               {"10.0.2.3]\n", "10.0.2.3]\n...\n}\n", "document"},
		"no url":                    {"  url: https://github.example\n", "", "github.url"},
		"http url":                  {"url: https://github.example\n", "url: http://github.example\n", "github.url"},
		"user in url":               {"url: https://github.example\n", "url: https://u@github.example\n", "github.url"},
		"query in apiUrl":           {"/api/v3", "/api/v3?x", "github.apiUrl"},
		"fragment in issuer":        {"https://token.github.example", "https://token.github.example#x", "github.issuer"},
		"no issuer":                 {"  issuer: https://token.github.example\n", "", "github.issuer"},
		"host of url missing":       {"hosts: [github.example, ", "hosts: [", "lacks the host of github.url"},
		"no hosts":                  {"  hosts: [github.example, api.github.example, token.github.example]\n", "", "lacks the host"},
		"host in upper case":        {"hosts: [", "hosts: [Up.example, ", "host name"},
		"wildcard host":             {"hosts: [", "hosts: ['*.example', ", "host name"},
		"host with port":            {"hosts: [", "hosts: ['a.example:1', ", "host name"},
		"host with path":            {"hosts: [", "hosts: [a.example/x, ", "host name"},
		"host with line":            {"hosts: [", `hosts: ["a.example\n1.2.3.4 b.example", `, "host name"},
		"host with dot at end":      {"hosts: [", "hosts: [a.example., ", "host name"},
		"empty host":                {"hosts: [", "hosts: ['', ", "host name"},
		"long host":                 {"hosts: [", "hosts: [" + strings.Repeat("a.", 126) + "ab, ", "host name"},
		"no scope":                  {"  scope: repo\n", "", "scope"},
		"enterprise with a name":    {"scope: repo", "scope: enterprise", "scope"},
		"enterprise without owners": {"scope: repo\n  target: acme/widget", "scope: enterprise\n  target: acme", "github.owners"},
		"repo without name":         {"acme/widget", "acme", "scope"},
		"repo without owner":        {"acme/widget", "/widget", "scope"},
		"repo too deep":             {"acme/widget", "acme/widget/x", "scope"},
		"org with name":             {"scope: repo", "scope: org", "scope"},
		"no target":                 {"  target: acme/widget\n", "", "target"},
		"no registrar":              {"  registrar: rest\n", "", "github.registrar"},
		"unknown registrar":         {"registrar: rest", "registrar: soap", "github.registrar"},
		"owners of a repository":    {"  registrar: rest\n", "  registrar: rest\n  owners: [acme]\n", "github.owners"},
		"nameless owner":            {"  registrar: rest\n", "  registrar: rest\n  owners: [\"\"]\n", "github.owners"},
		"no group":                  {"  runnerGroup: 1\n", "", "runnerGroup"},
		"negative group":            {"runnerGroup: 1", "runnerGroup: -1", "runnerGroup"},
		"no labels":                 {"[attested-cvm]", "[]", "labels"},
		"empty label":               {"[attested-cvm]", "['']", "labels"},
		"101 labels":                {"[attested-cvm]", "[" + strings.Repeat("l, ", 101) + "]", "labels"},
		"root in a folder":          {"github-ca.pem", "../github-ca.pem", "roots file"},
		"hidden root":               {"sink-ca.pem", ".sink-ca.pem", "roots file"},
		"empty root":                {"simulator.pem", "''", "roots file"},
		"no credential":             {"from: admission, ", "", "credential.from"},
		"credential elsewhere":      {"from: admission", "from: file", "credential.from"},
		"credential half outside":   {"from: admission", "from: launcher", "has no url"},
		"admission nowhere":         {`url: "https://dispatch.example:8444/admit", `, "", "credential.url"},
		"admission in the clear":    {`url: "https://dispatch`, `url: "http://dispatch`, "credential.url"},
		"admission by anybody":      {", keys: [operator.pem]", "", "credential.keys"},
		"admission by any server":   {"roots: [dispatch-ca.pem], ", "", "credential.roots"},
		"key elsewhere":             {"keys: [operator.pem]", "keys: [../operator.pem]", "operator.pem"},
		"no image":                  {"image: {bundle: partition, trustedRoot: sigstore.json, maxAge: 2160h}\n", "", "image.bundle"},
		"image's word elsewhere":    {"bundle: partition", "bundle: disk", "image.bundle"},
		"image's word in the clear": {"bundle: partition", "bundle: http://a.example/b", "image.bundle"},
		"registry without a name":   {"bundle: partition", "bundle: oci://registry.example", "image.bundle"},
		"registry of Docker's hub":  {"bundle: partition", "bundle: oci://acme/images", "neither a dot nor a port"},
		"registry and a digest":     {"bundle: partition", "bundle: oci://registry.example/acme/images@sha256:00", "image.bundle"},
		"registry's word elsewhere": {"bundle: partition", "bundle: OCI://registry.example/acme/images", "image.bundle"},
		"roots of a partition":      {"bundle: partition", "bundle: partition, roots: [a.pem]", "image.roots"},
		"no trusted root":           {", trustedRoot: sigstore.json", "", "image.trustedRoot"},
		"trusted root elsewhere":    {"sigstore.json", "/sigstore.json", "image.trustedRoot"},
		"image without an age":      {", maxAge: 2160h", "", "image.maxAge"},
		"image for ever":            {"2160h", "99999h", "image.maxAge"},
		"no profile":                {"  profile: strict\n", "", "sandbox.profile"},
		"other profile":             {"profile: strict", "profile: open", "sandbox.profile"},
		"no init":                   {"  init: small\n", "", "sandbox.init"},
		"other init":                {"init: small", "init: runit", "sandbox.init"},
		"no scratch":                {"  scratch: memory\n", "", "sandbox.scratch"},
		"other scratch":             {"scratch: memory", "scratch: tmpfs", "sandbox.scratch"},
		"no cpus":                   {"cpus: 1.5, ", "", "cpus"},
		"too few cpus":              {"cpus: 1.5", "cpus: 0.01", "cpus"},
		"no number of cpus":         {"cpus: 1.5", "cpus: .nan", "cpus"},
		"no disk":                   {"diskMiB: 8192, ", "", "sandbox.limits"},
		"small disk":                {"diskMiB: 8192", "diskMiB: 255", "diskMiB"},
		"more disk than bits":       {"diskMiB: 8192", "diskMiB: 8796093022208", "sandbox.limits"},
		"no io":                     {"ioMiBps: 1000, ", "", "sandbox.limits"},
		"negative io":               {"ioMiBps: 1000", "ioMiBps: -1", "sandbox.limits"},
		"frozen for too long":       {"45s", "51s", "freezeTime"},
		"no memory":                 {"memoryMiB: 2048, ", "", "sandbox.limits"},
		"negative memory":           {"memoryMiB: 2048", "memoryMiB: -1", "sandbox.limits"},
		"more memory than bits":     {"memoryMiB: 2048", "memoryMiB: 9223372036854775807", "sandbox.limits"},
		"no processes":              {"processes: 1024, ", "", "sandbox.limits"},
		"no output":                 {"outputMiB: 4096, ", "", "sandbox.limits"},
		"more output than bits":     {"outputMiB: 4096", "outputMiB: 8796093022208", "sandbox.limits"},
		"no freeze time":            {", freezeTime: 45s", "", "sandbox.limits"},
		"negative freeze time":      {"freezeTime: 45s", "freezeTime: -45s", "sandbox.limits"},
		"no egress before":          {"  beforeDispatch: github-only\n", "", "beforeDispatch"},
		"open egress before":        {"github-only", "all", "beforeDispatch"},
		"no egress after":           {after, "", "egress.after"},
		"no mode":                   {"mode: allow, ", "", "egress.after.mode"},
		"other mode":                {"mode: allow", "mode: all", "egress.after.mode"},
		"list that is not read":     {"mode: allow", "mode: none", "does not read"},
		"list beside audit":         {"mode: allow", "mode: audit", "does not read"},
		"empty list":                {after, "  after: {mode: allow}\n", "allow is empty"},
		"host of any name":          {`"*.debian.example"`, `"*"`, "neither a host"},
		"wildcard inside":           {`"*.debian.example"`, `"a.*.example"`, "neither a host"},
		"two wildcards":             {`"*.debian.example"`, `"*.*.example"`, "neither a host"},
		"address as host":           {`"*.debian.example"`, `"[::1]"`, "neither a host"},
		"no ports":                  {"ports: [80, 8080], ", "", "no ports"},
		"port zero":                 {"[80, 8080]", "[0]", "not a port"},
		"port too high":             {"[80, 8080]", "[65536]", "not a port"},
		"no protocol":               {", protocol: http", "", "protocol"},
		"other protocol":            {"protocol: http", "protocol: quic", "protocol"},
		"no name server for egress": {"  nameServers: [10.0.2.3]\n", "", "egress.after allow names hosts"},
		"no name server for GitHub": {"  nameServers: [10.0.2.3]\n", "", "resolve lacks api.github.example"},
		"four name servers":         {"[10.0.2.3]", "[10.0.2.3, 10.0.2.4, 10.0.2.5, 10.0.2.6]", "nameServers has 4"},
		"name of a name server":     {"[10.0.2.3]", "[dns.example]", "nameServers"},
		"no policy":                 {"policy: policy.yaml\n", "", "policy"},
		"policy elsewhere":          {"policy.yaml", "/policy.yaml", "policy"},
		"no sink":                   {"  url: https://records.example/records\n", "", "sink.url"},
		"no register time":          {"register: 60s, ", "", "timeouts.register"},
		"no listen time":            {"listen: 2m, ", "", "timeouts.listen"},
		"no ghost time":             {"ghost: 60s, ", "", "timeouts.ghost"},
		"no idle time":              {"idle: 5m, ", "", "timeouts.idle"},
		"no job time":               {", job: 6h", "", "timeouts.job"},
		"no drain time":             {", drain: 10m", "", "timeouts.drain"},
		"job longer than GitHub's":  {"job: 6h", "job: 121h", "timeouts.job"},
		"time without unit":         {"job: 6h", "job: 6", "time.Duration"},
		"no platform":               {"allowed: [snp, sim], ", "", "platforms.allowed"},
		"unknown platform":          {"[snp, sim]", "[snp, sgx]", "platform"},
		"sim without roots":         {", roots: [simulator.pem]", "", "platforms.roots"},
		"no address":                {"  address: 10.0.2.15/24\n", "", "network.address"},
		"address of no network":     {"10.0.2.15/24", "10.0.2.15", "network.address"},
		"gateway by name":           {"gateway: 10.0.2.2", "gateway: gw.example", "network.gateway"},
		"resolve a wildcard":        {"{github.example: 10", "{'*.example': 10", "network.resolve"},
		"resolve to a name":         {"10.0.2.100}", "other.example}", "network.resolve"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.Count(good, tc.old) < 1 {
				t.Fatalf("nothing to break: %q", tc.old)
			}
			c, err := Parse([]byte(strings.Replace(good, tc.old, tc.broken, 1)))
			if err == nil || c != nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v does not say %q", err, tc.says)
			}
		})
	}
	for name, raw := range map[string]string{
		"nothing": "", "a list": "[]", "a word": "x", "an empty object": "{}", "a comment": "# x\n", "no YAML": "\t{",
		"too long": good + strings.Repeat("#", MaxFile),
	} {
		if _, err := Parse([]byte(raw)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestAllFaults shows an operator everything at once.
func TestAllFaults(t *testing.T) {
	t.Parallel()
	_, err := Parse([]byte("schema: x\n"))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{
		"schema", "github.url", "github.apiUrl", "github.issuer", "github.scope", "github.runnerGroup", "github.labels", "credential.from",
		"sandbox.profile", "sandbox.limits", "egress.beforeDispatch", "egress.after", "policy", "sink.url", "timeouts", "platforms.allowed", "network.address",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("nothing about %s", part)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("schema: kettle.config/v1\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("<<: {schema: x}\n---\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := Parse(raw)
		if err != nil {
			if c != nil {
				t.Fatal("a configuration and an error")
			}
			return
		}
		if c.Digest() != binding.Sum(raw) {
			t.Fatal("another digest")
		}
		var again bytes.Buffer
		if err := yaml.NewEncoder(&again).Encode(c); err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(again.Bytes()); err != nil {
			t.Fatalf("refused what it accepted: %v\n%s", err, &again)
		}
	})
}

// TestImageInRegistry: a bundle may be in a registry, of a private authority too.
func TestImageInRegistry(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"oci://registry.example/acme/images", `"oci://registry.example:5000/images:v1", roots: [a.pem]`} {
		c, err := Parse([]byte(strings.Replace(good, "bundle: partition", "bundle: "+at, 1)))
		if err != nil || !c.Image.InRegistry() {
			t.Errorf("%s: %v", at, err)
		}
	}
}
