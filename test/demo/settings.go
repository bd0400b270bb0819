// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/kettle/attest/internal/fakegithub"
)

// The guest's view of the two servers.
const (
	guestGitHub  = "10.0.2.100"
	guestRecords = "10.0.2.101"
)

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
  url: https://` + recordsHost + `/records
  roots: [demo-ca.pem]
timeouts: {register: 60s, listen: 2m, ghost: 60s, idle: 5m, job: 10m, drain: 5m}
platforms: {allowed: [sim], roots: [simulator.pem]}
network:
  address: 10.0.2.15/24
  resolve:
    ` + recordsHost + `: ` + guestRecords + `
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

// consumer is the policy outside: what whoever downloads the artifact accepts. %s is the measurement of the image.
const consumer = `apiVersion: kettle/v1
expires: never
environments:
  platforms: [sim]                  # a simulated secure processor; production says snp
  floor: strict
  measurements: [%s]
  lateCompromise: [register-replay, token]
artifacts:
  builders: [https://github.com/kettle/attest/builders/sim/strict/v1]
  repositories:
    - {url: https://github.demo.test/acme/widget, id: 1, ownerId: 2}
  workflows: [.github/workflows/*.yml]
  refs: [refs/heads/main]
  events: [workflow_dispatch]
  identitySource: token
`

// settings writes the measured configuration into a fresh folder.
func settings(dir string, w *world, s *stage) error {
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
		Names []string
	}{hosts, hosts.Names()}); err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"config.yaml": config.Bytes(), "policy.yaml": []byte(jobs), "demo-ca.pem": w.ca.PEM(), "simulator.pem": s.sim.RootsPEM(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil { //nolint:gosec // public.
			return err
		}
	}
	return nil
}

// consumerPolicy shortens the measurement's line to what a terminal shows.
func consumerPolicy(measurement string) []byte {
	return []byte(fmt.Sprintf(consumer, strings.TrimSpace(measurement)))
}
