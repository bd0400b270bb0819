// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// environments says which machines are taken: those whose image this workflow signed. The first %s is who signs, the second
// what else is demanded.
const environments = `apiVersion: kettle/v1
expires: never
environments:
  platforms: [sim]                  # a simulated secure processor; production says snp
  floor: strict
  revocation: if-present
  images: [%s]
  measurements: signed              # for that image, by that workflow
  lateCompromise: %s
revoked: none
`

// artifacts says which artifacts a consumer takes.
const artifacts = `artifacts:
  builders: [https://github.com/kettle/attest/builders/sim/strict/v1]
  repositories:
    - {url: https://github.demo.test/acme/widget, id: 1, ownerId: 2}
  workflows: [.github/workflows/*.yml]
  refs: [refs/heads/main]
  events: [workflow_dispatch]
  identitySource: token
`

// machines is the policy of whoever admits machines.
func machines(signer, demands string) []byte { return fmt.Appendf(nil, environments, signer, demands) }

// consumerPolicy is the policy outside: what whoever downloads the artifact accepts.
func consumerPolicy(signer string, operator []byte) []byte {
	key := strings.ReplaceAll(strings.TrimSpace(string(operator)), "\n", "\n        ")
	demands := "[register-replay, token, admission]\n  admission:\n    keys:\n      - |\n        " + key
	return append(machines(signer, demands), artifacts...)
}
