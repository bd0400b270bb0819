// SPDX-License-Identifier: Apache-2.0

// Package worker runs one job as GitHub's Runner.Worker does: set up, started hook, steps, completed hook, result.
//
// Guarantees: the order of these parts, the environment each gets, the file commands, the conditions, the signals on
// cancellation and the calls to GitHub's services follow the real program. Steps are scripts and composite actions.
// Trusts: the job message. Does not: run JavaScript or container actions, start containers, match problems in output,
// feed the live console, or attach a debugger; each of the first three fails the step or job in clear words.
package worker
