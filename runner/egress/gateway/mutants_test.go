// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package gateway

import (
	"errors"
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants opens the gateway in one place after the other and demands that an attack then succeeds.
func TestMutants(t *testing.T) {
	t.Parallel()
	const wire, steering = "runner/egress/gateway/wire.go", "runner/egress/gateway/steering.go"
	setting := func(name, closed, opened string) mutant.Mutant {
		return mutant.Mutant{Check: name, File: wire, Old: name + `", "` + closed + `"`, New: name + `", "` + opened + `"`}
	}
	for _, row := range []struct {
		mutant.Mutant
		attack string
		second string // why nothing happens without it: another check stands behind it
	}{
		{setting("/arp_ignore", "1", "0"), "TestAttackARP", ""},
		{setting("icmp_echo_ignore_all", "1", "0"), "TestAttackPing", ""},
		{setting("icmp_ratelimit", "0", "1000"), "TestAttackDatagrams", ""},
		{setting("/route_localnet", "0", "1"), "TestAttackFrames", ""},
		{mutant.Mutant{
			Check: "no IPv6", File: wire, Old: `setting{"ipv6/conf/" + conf + "/disable_ipv6", "1"},`, New: `setting{"ipv6/conf/" + conf + "/disable_ipv6", "0"},`,
		}, "TestAttackIPv6", ""},
		{mutant.Mutant{
			Check: "the way back is to the sandbox's address alone", File: wire, Old: "Mask: net.CIDRMask(32, 32)}, Src:", New: "Mask: net.CIDRMask(1, 32)}, Src:",
		}, "TestAttackFrames", ""},
		{mutant.Mutant{
			Check: "every connection is given to the listener", File: steering, Old: `asm.JNE.Imm(asm.R1, unix.IPPROTO_TCP, "drop"),`, New: `asm.JEq.Imm(asm.R1, unix.IPPROTO_TCP, "pass"),`,
		}, "TestAttackReaddress", ""},
		{setting("ip_forward", "0", "1"), "TestAttackReaddress", "every address is local, and there is no other interface"},
		{setting("/accept_local", "0", "1"), "TestAttackFrames", "an answer to a foreign source stays in the gateway"},
		{setting("/accept_source_route", "0", "1"), "TestAttackFrames", "every address is local"},
		{setting("/proxy_arp", "0", "1"), "TestAttackARP", "arp_ignore"},
		{mutant.Mutant{
			Check: "no IPv6 in the program", File: steering, Old: `asm.JNE.Imm(asm.R1, unix.AF_INET, "drop"),`, New: `asm.Mov.Imm(asm.R1, 0),`,
		}, "TestAttackIPv6", "IPv6 is off"},
	} {
		t.Run(row.Check, func(t *testing.T) {
			t.Parallel()
			if row.second == "" {
				mutant.Run(t, row.Mutant, "runner/egress/gateway", row.attack)
			} else if err := mutant.Try(t, row.Mutant, "runner/egress/gateway", row.attack); !errors.Is(err, mutant.ErrSurvived) {
				t.Errorf("it has a second lock (%s), but: %v", row.second, err)
			}
		})
	}
}
