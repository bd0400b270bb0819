// SPDX-License-Identifier: Apache-2.0

// Package stubrunner stands in for GitHub's self-hosted runner program, in tests and demonstrations.
//
// The program is built from cmd/stubrunner and installed as <root>/bin/Runner.Listener; it starts itself again as
// bin/Runner.Worker. It guarantees the behaviour that a supervisor of the real runner 2.336 can observe: arguments,
// files, console lines, exit codes, requests, processes, signals, hooks, environment and logs of one ephemeral job. It
// trusts GitHub's services and its registration. It knows nothing of who supervises it, and it leaves out what the
// packages below name: self-update, protocol version 1, JavaScript and container actions, containers.
//
// Packages, in the order of dependence: expr, token, message, mask, trace, channel, proc, service, registration, action,
// worker, listener.
package stubrunner
