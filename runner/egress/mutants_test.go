// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package egress

import (
	"errors"
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts one check after the other out of the gate and demands that an attack then succeeds.
func TestMutants(t *testing.T) {
	t.Parallel()
	const folder = "runner/egress/"
	cut := func(file, condition, attack string) row {
		return row{mutant.Mutant{Check: condition, File: folder + file, Old: condition, New: "false"}, attack, ""}
	}
	swap := func(file, old, with, attack string) row {
		return row{mutant.Mutant{Check: old, File: folder + file, Old: old, New: with}, attack, ""}
	}
	for _, r := range []row{
		swap("serve.go", "name, ok := g.names.name(wanted.Addr())", "name, ok := wanted.Addr().String(), true", "TestAttackRawAddress"),
		cut("serve.go", "wanted.Port() == portDNS", "TestAttackDNSLeak"),
		swap("serve.go", "for g.accepts.Wait(ctx) == nil {", "for ctx.Err() == nil {", "TestAttackConnectionRate"),
		swap("serve.go", "return byServerName{gate: g}", "return byServerName{gate: g, hidden: true}", "TestAttackHiddenName"),
		swap("gate.go", "make(chan struct{}, l.Connections)", "make(chan struct{}, 1<<20)", "TestAttackConnections"),
		swap("gate.go", "g.names.address(host)", "_ = host", "TestAttackNames"),
		cut("names.go", "len(n.byName) >= maxNames", "TestAttackNames"),

		swap("rules.go", "!dispatched || port", "port", "TestAttackPhase"),
		swap("rules.go", "return TLS, port == portHTTPS", "return TLS, true", "TestAttackPinnedPort"),
		swap("rules.go", "return dispatched && (", "return (", "TestAttackBeforeDispatch"),
		swap("rules.go", "if e.matches(name) && slices.Contains(e.Ports, port) {", "if e.matches(name) {", "TestAttackNotListed"),
		swap("rules.go", `strings.CutPrefix(e.Host, "*"); ok`, `strings.CutPrefix(e.Host, "*."); ok`, "TestAttackNotListed"),
		cut("dns.go", "!g.config.Rules.open(name, g.dispatched.Load())", "TestAttack(BeforeDispatch|NotListed)"),
		swap("dns.go", "control == nil || !g.queries.Allow()", "control == nil", "TestAttackQueries"),
		swap("dns.go", "_ = client.SetDeadline(time.Now().Add(g.config.Limits.Hello))", "_ = time.Now", "TestAttackSlowHello"),

		cut("hello.go", "h.name != f.host", "TestAttack(Audited)?ServerName"),
		swap("hello.go", "	case h.hidden:\n", "	case false:\n", "TestAttackHiddenName"),
		swap("hello.go", "SetDeadline(time.Now().Add(b.gate.config.Limits.Hello))", "SetDeadline(time.Time{})", "TestAttackSlowHello"),
		cut("http.go", "r.Method == http.MethodConnect", "TestAttackRequest"),
		cut("http.go", `r.Header.Get("Upgrade") != ""`, "TestAttackRequest"),
		cut("http.go", "!c.isFor(r.Host)", "TestAttack(Audited)?Request"),
		cut("http.go", `r.URL.IsAbs() && r.URL.Scheme != "http"`, "TestAttackRequest"),
		swap("http.go", `"http", c.authority(), c.authority()`, `"http", c.authority(), r.In.Host`, "TestAttackSmuggle"),
		swap("http.go", "ReadHeaderTimeout: g.config.Limits.Hello, ", "", "TestAttackSlowHello"),
		swap("http.go", "if c.count.spend(n, sent) {", "if c.count.spend(n, sent) || true {", "TestAttackBudget"),
		swap("http.go", "c.idle = time.AfterFunc(limits.Idle, func() { abort(f.client) })", "c.idle = time.AfterFunc(limits.Idle, func() {})", "TestAttackIdle"),

		swap("dial.go", "net.Dialer{Control: judge(checkFound), ", "net.Dialer{", "TestAttack(SpecialPurpose|Rebinding|MixedAnswer|OwnAddress)"),
		cut("dial.go", "within(reserved[:], bare)", "TestAttack(Pinned)?SpecialPurpose"),
		cut("dial.go", "within(metadata[:], bare)", "TestAttackSpecialPurpose"),
		swap("dial.go", "ok && p.IP.Equal(bare.AsSlice())", "ok && p.IP == nil", "TestAttackOwnAddress"),
		swap("dial.go", `net.JoinHostPort(host+".", `, `net.JoinHostPort(host, `, "TestAttackSearchList"),
		swap("splice.go", "settle(ctx, end, l.idle)", "_ = settle", "TestAttackUnread"),
		swap("splice.go", "		if !spend(len(p)) {", "		if !spend(len(p)) && false {", "TestAttackBudget"),
		swap("splice.go", "at := time.Now().Add(l.idle)", "at := time.Time{}", "TestAttackIdle"),
		cut("ledger.go", "*count >= most", "TestAttackLedger"),

		cut("http.go", "answer.StatusCode == http.StatusSwitchingProtocols", "TestAttackSwitchingHost").behind("the library carries no switch that was not asked for"),
		cut("dial.go", "bare.IsLoopback()", "TestAttackOwnAddress").behind("127.0.0.0/8 is reserved, and ::1 is not global"),
		swap("rules.go", "|| port == portDNS {", "{", "TestAttackDNSLeak").behind("such a connection is the gate's own"),
	} {
		t.Run(r.Check, func(t *testing.T) {
			t.Parallel()
			if r.second == "" {
				mutant.Run(t, r.Mutant, "runner/egress", r.attack)
			} else if err := mutant.Try(t, r.Mutant, "runner/egress", r.attack); !errors.Is(err, mutant.ErrSurvived) {
				t.Errorf("it has a second lock (%s), but: %v", r.second, err)
			}
		})
	}
}

// row is a check without which an attack succeeds, or one with another check behind it.
type row struct {
	mutant.Mutant
	attack string
	second string
}

func (r row) behind(reason string) row {
	r.second = reason
	return r
}
