// SPDX-License-Identifier: Apache-2.0

// Package fakegithub is one GitHub in memory: REST, the runner's services and the token issuer, for tests and the demo.
//
// It guarantees the wire formats that github.com, go-github and actions/runner use where this project touches them
// (runners, jobs, runs, repositories, archives, releases, attestations; OAuth, broker, run service, launch, results;
// OpenID Connect), real authentication and permissions, and the one-job life of an ephemeral runner. It takes an unchanged
// workflow file from a folder, dispatches it and hands it to a runner. It evaluates no expression and runs nothing.
//
// It stands outside the trusted code: nothing that decides about evidence may import it. It trusts the folders and keys it
// is configured with and nothing that comes over the network. It is not GitHub: no web pages, no git protocol, no live
// console, no persistence; what a workflow asks for and it cannot do is refused by name.
//
// Every request passes [Server.ServeHTTP], is routed by host and path to one service and one handler, and is written to the
// request log. It misbehaves on purpose in three ways: [Faults] for what needs its state, [Authority.Present] for certificates,
// and package fault for everything a request can meet on the way. [Server.Ledger] says what a test left behind. Module
// test/interop holds it against an independent runner and GitHub's published description.
package fakegithub
