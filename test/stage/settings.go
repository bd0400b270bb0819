// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"text/template"
	"time"

	"github.com/kettle/attest/attest/token"
	"github.com/kettle/attest/internal/fakegithub"
)

// The names and addresses at which a machine on this stage finds its servers, all on port 443.
const (
	RecordsHost   = "records.github.demo.test"
	DispatchHost  = "dispatch.demo.test"
	guestGitHub   = "10.0.2.100"
	guestRecords  = "10.0.2.101"
	guestDispatch = "10.0.2.102"
)

// GuestGitHub is where the machine reaches the stand-in for GitHub.
func GuestGitHub() netip.AddrPort { return netip.MustParseAddrPort(guestGitHub + ":443") }

// GuestRecords is where the machine reaches the store of records.
func GuestRecords() netip.AddrPort { return netip.MustParseAddrPort(guestRecords + ":443") }

// GuestDispatch is where the machine reaches who admits it.
func GuestDispatch() netip.AddrPort { return netip.MustParseAddrPort(guestDispatch + ":443") }

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
image: {bundle: partition, trustedRoot: sigstore.json, maxAge: 24h}
{{- if .Admission}}
credential: {from: admission, url: "https://` + DispatchHost + `", roots: [dispatch-ca.pem], keys: [operator.pem]}
{{- else}}
credential: {from: launcher}
{{- end}}
sandbox:
  profile: strict
  init: small
  scratch: memory
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
    ` + DispatchHost + `: ` + guestDispatch + `
{{- range .Names}}
    {{.}}: ` + guestGitHub + `
{{- end}}
`))

// inside is the policy inside the image: which jobs this runner accepts, and whose images the machine takes for its own. %s is
// who signs them.
const inside = `apiVersion: kettle/v1
expires: never
environments:
  platforms: [sim]
  floor: strict
  revocation: if-present
  images: [%s]
  measurements: signed
  lateCompromise: none
revoked: none
jobs:
  repositories:
    - {url: https://github.demo.test/acme/widget, id: 1, ownerId: 2}
  workflows: [.github/workflows/*.yml]
  refs: [refs/heads/main]
  events: [workflow_dispatch]
  identitySource: token
`

// Outside is what the measured configuration says of the world around a machine.
type Outside struct {
	Timeouts string
	CA       *fakegithub.Authority // of GitHub and of the store of records
	Sigstore *Sigstore             // signs the image

	// DispatchCA and Operator are PEM, of the admission server's certificate and of the key that admits. Both are empty where the
	// launcher gives the credential.
	DispatchCA, Operator []byte
}

// Settings writes the measured configuration into a fresh folder.
func (s *Stage) Settings(dir string, o Outside) error {
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
		Names     []string
		Timeouts  string
		Admission bool
	}{hosts, hosts.Names(), o.Timeouts, len(o.Operator) > 0}); err != nil {
		return err
	}
	files := map[string][]byte{
		"config.yaml": config.Bytes(), "policy.yaml": fmt.Appendf(nil, inside, o.Sigstore.Signer()), "demo-ca.pem": o.CA.PEM(),
		"simulator.pem": s.Sim.RootsPEM(), "sigstore.json": o.Sigstore.TrustedRoot(),
	}
	if len(o.Operator) > 0 {
		files["dispatch-ca.pem"], files["operator.pem"] = o.DispatchCA, o.Operator
	}
	for name, data := range files {
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
