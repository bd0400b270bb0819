// SPDX-License-Identifier: Apache-2.0

// Package floor names how good a platform has to be.
//
// It holds three words and nothing else: what each asks of a platform is written down by the package that judges the
// platform. The zero value is no floor; it refuses everything. It imports only the standard library.
package floor

import "fmt"

// Floor says how good a platform has to be. The zero value is no floor and refuses everything.
type Floor uint8

// The floors, from the lowest.
const (
	// Signature asks only whether evidence is genuine. It admits debuggable guests and broken firmware.
	Signature Floor = iota + 1
	// Default adds: nobody can debug or migrate the guest, and the vendor's TCB floors are reached, by endorsements that
	// are present and current at the time of judging.
	Default
	// Strict adds what a vendor calls acceptable and a careful reader does not; each platform's package says what.
	Strict
)

// Parse reads "signature", "default" or "strict".
func Parse(s string) (Floor, error) {
	for _, f := range [...]Floor{Signature, Default, Strict} {
		if s == f.String() {
			return f, nil
		}
	}
	return 0, fmt.Errorf("reading floor %.40q: want signature, default or strict", s)
}

// String gives the word that [Parse] reads, or "none" for the zero value and anything unknown.
func (f Floor) String() string {
	switch f {
	case Signature:
		return "signature"
	case Default:
		return "default"
	case Strict:
		return "strict"
	}
	return "none"
}
