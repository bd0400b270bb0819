// SPDX-License-Identifier: Apache-2.0

// Package guard has one check that an attack needs removed, one that it does not, and one without which it crashes.
package guard

// Enter lets in who knows the word.
func Enter(word string, names []string) bool {
	if len(names) == 0 {
		return false
	}
	if word == "" {
		return false
	}
	if word != "open sesame" {
		return false
	}
	return names[0] != ""
}
