// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package door

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts one check of the door out after the other.
func TestMutants(t *testing.T) {
	t.Parallel()
	const server, peer, pace, wire = "runner/door/server.go", "runner/door/peer.go", "runner/door/pace.go", "runner/door/wire.go"
	for _, row := range []struct {
		mutant.Mutant
		attack string
	}{
		{mutant.Mutant{Check: "the pace", File: pace, Old: "if missing <= 0 {", New: "if missing <= 0 || true {"}, "TestAttackFlood"},
		{mutant.Mutant{Check: "the time to send a request", File: server,
			Old: "conn.SetReadDeadline(time.Now().Add(positive(s.ReadTimeout, defaultReadTimeout)))", New: "conn.SetReadDeadline(time.Time{})"}, "TestAttackHalfOpen"},
		{mutant.Mutant{Check: "one request at a time", File: server, Old: "\t\ts.serve(ctx, conn)\n", New: "\t\tgo s.serve(ctx, conn)\n"}, "TestAttackSimultaneous"},
		{mutant.Mutant{Check: "the peer is of the sandbox", File: peer,
			Old: "if err := ask(p.Peer); err != nil {", New: "if err := ask(p.Peer); err != nil && false {"}, "TestAttackForeignProcess"},
		{mutant.Mutant{Check: "the peer still has its id", File: peer,
			Old: "if err := p.exists(); err != nil {", New: "if err := p.exists(); err != nil && false {"}, "TestAttackBorrowedProcess"},
		{mutant.Mutant{Check: "the peer is still there", File: server,
			Old: "\t\t\tcancel(err)\n", New: "\t\t\t_ = cancel\n"}, "TestAttackVanishingPeer"},
		{mutant.Mutant{Check: "the length of a frame", File: wire, Old: "if n == 0 || n > MaxFrame {", New: "if n == 0 {"}, "TestAttackHugeFrame"},
		{mutant.Mutant{Check: "unknown and repeated keys", File: wire,
			Old: "if err := strict.Decode(data, &r); err != nil {\n\t\treturn nil, malformed(", New: "if err := json.Unmarshal(data, &r); err != nil {\n\t\treturn nil, malformed("}, "TestAttackForgedRequest"},
	} {
		t.Run(row.Check, func(t *testing.T) {
			t.Parallel()
			mutant.Run(t, row.Mutant, "runner/door", "^"+row.attack+"$")
		})
	}
}
