// SPDX-License-Identifier: Apache-2.0

// Package fault puts a hostile network and a failing GitHub before a [fakegithub.Server].
//
// A [Handler] serves what the server serves, except where a [Rule] says otherwise: it matches requests by service, method, path
// and predicate, lets some of them pass, and then acts. It guarantees that the first rule that matches and still has occurrences
// left acts, that each act is counted before it happens, that rules may come and go while requests run, and that nothing it holds
// back outlives the client, the rule or [Handler.Close]. It trusts the server behind it and the tests that set its rules.
//
// It is for what a client can meet on the way to GitHub. What needs GitHub's own state (a job that two runners claim, a token
// of a wrong issuer) is in [fakegithub.Faults]; certificates that do not fit are in [fakegithub.Authority.Present].
package fault
