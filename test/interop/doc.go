// SPDX-License-Identifier: Apache-2.0

// Package interop holds tests that keep fakegithub honest by what others wrote against the real GitHub.
//
// It guarantees that an independent runner, github-act-runner's package actionsrunner, gets a registration, takes a job and brings
// it to its end through fakegithub, and that the REST answers of a job's whole life fit GitHub's published OpenAPI description. It
// trusts those two to know GitHub. It does not show that GitHub behaves so today. A module of its own keeps what it needs out
// of the product.
package interop
