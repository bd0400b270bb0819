// SPDX-License-Identifier: Apache-2.0

// Package listener connects a runner to GitHub, waits for one job and hands it to a Worker process, as GitHub's
// Runner.Listener does.
//
// Guarantees: the real program's arguments, files, console lines, requests and exit codes for the life of an ephemeral
// runner of protocol version 2. Trusts: the registration it is given. Does not: configure, update or remove a runner,
// nor speak protocol version 1. [Faults] make it hang, crash or lie at will; they are for tests of what supervises it.
package listener
