// SPDX-License-Identifier: Apache-2.0

// Package action finds, downloads and reads actions.
//
// Guarantees: an archive is unpacked to <actions>/owner/repo/ref, never outside of it, and only when whole; a composite
// action's steps come out in the form of a job's steps. Trusts: the services that resolve and serve archives. Does not:
// run anything; actions other than composite ones are recognised, not run.
package action
