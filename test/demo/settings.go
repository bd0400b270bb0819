// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// consumer is the policy outside: what whoever downloads the artifact accepts. %s is the measurement of the image.
const consumer = `apiVersion: kettle/v1
expires: never
environments:
  platforms: [sim]                  # a simulated secure processor; production says snp
  floor: strict
  revocation: if-present
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

// consumerPolicy shortens the measurement's line to what a terminal shows.
func consumerPolicy(measurement string) []byte {
	return []byte(fmt.Sprintf(consumer, strings.TrimSpace(measurement)))
}
