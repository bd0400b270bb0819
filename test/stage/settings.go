// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"text/template"
	"time"

	"github.com/kettle/attest/attest/token"
	"github.com/kettle/attest/internal/fakegithub"
)

// The names and addresses at which a machine on this stage finds its servers, both on port 443.
const (
	RecordsHost  = "records.github.demo.test"
	guestGitHub  = "10.0.2.100"
	guestRecords = "10.0.2.101"
)

// GuestGitHub is where the machine reaches the stand-in for GitHub.
func GuestGitHub() netip.AddrPort { return netip.MustParseAddrPort(guestGitHub + ":443") }

// GuestRecords is where the machine reaches the store of records.
func GuestRecords() netip.AddrPort { return netip.MustParseAddrPort(guestRecords + ":443") }

// DemoTimeouts suit a person who watches.
const DemoTimeouts = "{register: 60s, listen: 2m, ghost: 60s, idle: 5m, job: 10m, drain: 5m}"

var configuration = template.Must(template.New("config").Parse(`schema: kettle.config/v1
github:
  url: https://{{.Server}}
  apiUrl: https://{{.API}}
  issuer: https://{{.Issuer}}
  scope: repo
  target: acme/widget
  registrar: rest
  runnerGroup: 1
  labels: [attested-cvm]
  hosts:
{{- range .Names}}
    - {{.}}
{{- end}}
  roots: [demo-ca.pem]
credential: {from: launcher}
sandbox:
  profile: strict
  init: small
  limits: {memoryMiB: 1024, processes: 2048, cpus: 1, diskMiB: 1024, ioMiBps: 4096, outputMiB: 4096, freezeTime: 45s}
egress: {beforeDispatch: github-only, after: {mode: none}}
policy: policy.yaml
sink:
  url: https://` + RecordsHost + `/records
  roots: [demo-ca.pem]
timeouts: {{.Timeouts}}
platforms: {allowed: [sim], roots: [simulator.pem]}
network:
  address: 10.0.2.15/24
  resolve:
    ` + RecordsHost + `: ` + guestRecords + `
{{- range .Names}}
    {{.}}: ` + guestGitHub + `
{{- end}}
`))

// jobs is the policy inside the image: which jobs this runner accepts.
const jobs = `apiVersion: kettle/v1
expires: never
jobs:
  repositories:
    - {url: https://github.demo.test/acme/widget, id: 1, ownerId: 2}
  workflows: [.github/workflows/*.yml]
  refs: [refs/heads/main]
  events: [workflow_dispatch]
  identitySource: token
`

// Settings writes the measured configuration into a fresh folder.
func (s *Stage) Settings(dir, timeouts string, ca *fakegithub.Authority) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // public.
		return err
	}
	hosts := fakegithub.DemoHosts()
	var config bytes.Buffer
	if err := configuration.Execute(&config, struct {
		fakegithub.Hosts
		Names    []string
		Timeouts string
	}{hosts, hosts.Names(), timeouts}); err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"config.yaml": config.Bytes(), "policy.yaml": []byte(jobs), "demo-ca.pem": ca.PEM(), "simulator.pem": s.Sim.RootsPEM(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil { //nolint:gosec // public.
			return err
		}
	}
	return nil
}

// Trust is the verifier's own copy of the issuer's keys. server is the URL of the stand-in for GitHub.
func Trust(g *fakegithub.Server, server string, now time.Time) ([]byte, error) {
	keys, err := json.Marshal(g.JWKS())
	if err != nil {
		return nil, err
	}
	day := now.UTC().Truncate(24 * time.Hour)
	text, err := json.MarshalIndent(map[string]any{
		"schema": token.Schema, "asOf": day, "issuers": []any{map[string]any{
			"issuer": g.Issuer(), "server": server, "from": day.AddDate(0, 0, -1), "until": day.AddDate(0, 0, 2), "jwks": json.RawMessage(keys),
		}},
	}, "", "  ")
	return append(text, '\n'), err
}
