// SPDX-License-Identifier: Apache-2.0

// Package message reads what GitHub's services send to a runner: the broker's messages and the job message.
//
// Guarantees: lenient reading as the real runner does it (unknown members are ignored, names ignore case, enumerations
// come as text or number), with the order of context data kept. Trusts: the service that sent the bytes. Does not:
// evaluate anything.
package message
