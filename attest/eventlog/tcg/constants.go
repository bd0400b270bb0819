// SPDX-License-Identifier: Apache-2.0

package tcg

import "bytes"

// The strings that EDK2 and the specification fix (PFP, section 10.4.4 "EV_EFI_ACTION Event Types").
const (
	actionExitInvoked  = "Exit Boot Services Invocation"
	actionExitReturned = "Exit Boot Services Returned with Success"
)

// efiGlobalVariable is EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c, as it lies in memory.
var efiGlobalVariable = GUID{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}

// constants are digests of what can be measured in a few ways only. An event with such a digest says what it says,
// whatever the log calls it; so nobody can hide it by another label or put it there by label alone.
type constants struct {
	separatorZeros, separatorOnes, separatorError []byte
	exitInvoked, exitReturned                     []byte
	secureBoot                                    [3]struct {
		state  SecureBoot
		digest []byte
	}
}

func newConstants(a Algorithm) constants {
	c := constants{
		separatorZeros: a.sum([]byte{0, 0, 0, 0}),
		separatorOnes:  a.sum([]byte{0xff, 0xff, 0xff, 0xff}),
		separatorError: a.sum([]byte{1, 0, 0, 0}),
		exitInvoked:    a.sum([]byte(actionExitInvoked)),
		exitReturned:   a.sum([]byte(actionExitReturned)),
	}
	for i, v := range []struct {
		state SecureBoot
		value []byte
	}{{SecureBootAbsent, nil}, {SecureBootOff, []byte{0}}, {SecureBootOn, []byte{1}}} {
		c.secureBoot[i].state = v.state
		c.secureBoot[i].digest = a.sum(variableData(efiGlobalVariable, "SecureBoot", v.value))
	}
	return c
}

// separator reports whether the digest is that of a separator without error (PFP, section 10.4.1: 0 or 0xFFFFFFFF).
func (c *constants) separator(digest []byte) bool {
	return bytes.Equal(digest, c.separatorZeros) || bytes.Equal(digest, c.separatorOnes)
}

// secureBootState gives the state that the digest stands for, and false if for none.
func (c *constants) secureBootState(digest []byte) (SecureBoot, bool) {
	for _, s := range c.secureBoot {
		if bytes.Equal(digest, s.digest) {
			return s.state, true
		}
	}
	return SecureBootUnknown, false
}
