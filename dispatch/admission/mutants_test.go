// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package admission_test

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts one check of admission out after the other.
// go test -tags mutants -run TestMutants ./dispatch/admission.
func TestMutants(t *testing.T) {
	t.Parallel()
	const judge, nonce, ledger, server = "judge.go", "nonce.go", "ledger.go", "server.go"
	for _, row := range []struct{ check, file, old, with, attack string }{
		{"nonce is this server's", nonce, "n.tag(d, environment), d[nonceHead:]) != 1 {", "n.tag(d, environment), d[nonceHead:]) > 1 {", "ForeignNonce$"},
		{"nonce is this environment's", nonce, "h.Write(environment[:])", "_ = environment", "ForeignNonce$"},
		{"nonce has a time", nonce, "h.Write(d[:nonceHead])", "h.Write(d[nonceTime:nonceHead])", "ForeignNonce$"},
		{"nonce is fresh", nonce, "if made := n.made(d); now.Before(made) || !now.Before(made.Add(n.life)) {", "if made := n.made(d); made.IsZero() {", "StaleNonce$"},
		{"nonce is used once", nonce, "if _, twice := n.used[d]; twice {", "if _, twice := n.used[d]; twice && false {", "ReplayedRequest$"},
		{"nonce is quoted", judge, `claim{"nonce in the quote", s.Conditions.Nonce.String(), ctx.Nonce.String()},`, "", "OtherNonce$"},
		{"HPKE key is quoted", judge, `claim{"HPKE key in the quote", s.HPKEKey.String(), ctx.HPKEKey.String()},`, "", "OtherHPKEKey$"},
		{"purpose is demanded", judge, "q.Binds(payload, e.Binding, binding.Admission)", "q.Binds(payload, e.Binding, func() binding.Purpose { c, _ := binding.Parse(e.Binding); return c.Purpose }())", "OtherPurpose$"},
		{"who signed the request", judge, `claim{"key that signed the request", s.EnvironmentKey.String(), binding.Sum(e.PublicKey).String()},`, "", "OtherSigner$"},
		{"the request is signed", "judge.go", "return b.Verify(spki)", "return b.Payload(), nil", "OtherSigner$"},
		{"BOOT is of this key", judge, "return agree(\n\t\tclaim{\"environment key in the quote\", g.request.EnvironmentKey.String(), ctx.EnvironmentKey.String()},\n\t\tclaim{\"key that signed it\", g.request.EnvironmentKey.String(), binding.Sum(e.PublicKey).String()},\n\t)",
			"_ = ctx\n\treturn nil", "ForeignBoot$"},
		{"BOOT is of this machine", judge, `claim{"instance of BOOT's quote", fmt.Sprint(g.instance), fmt.Sprint(g.quotes[1].Instance())},`, "", "TwinQuote$"},
		{"BOOT says this machine", judge, `claim{"instance in BOOT", fmt.Sprint(g.instance), fmt.Sprint(g.boot.Conditions.Instance)},`, "", "TwinStatement$"},
		{"BOOT's evidence is named", judge, `claim{"digest of the BOOT evidence", evidence.Digest(r.BootEvidence).String(), s.BootEvidence.String()},`, "", "OtherBootEvidence$"},
		{"the machine is named", judge, `claim{"instance in the request", fmt.Sprint(g.instance), fmt.Sprint(s.Conditions.Instance)},`, "", "OtherInstance$"},
		{"nothing happened before", judge, "ok := len(events) == len(want)", "ok := len(events) >= len(want)", "UsedMachine$"},
		{"register is the replay", judge, "if _, err := q.Replays(log); err != nil {", "if _, err := q.Replays(log); err != nil && false {", "HiddenEvents$"},
		{"floor", judge, "errs = append(errs, q.MeetsFloor(environments, at))", "", "WeakMachine$"},
		{"policy", judge, "errs = append(errs, environments.Allow(own, at))", "_ = own", "WeakMachine$"},
		{"what is revoked", judge, "j.Policy.Revoked().Allow(names, at), imageErr", "imageErr", "Revoked$"},
		{"the environment's key can be revoked", judge, "Keys: []binding.Digest{g.request.EnvironmentKey}, ", "", "Revoked$"},
		{"configuration of the image", judge, "Components: map[string]binding.Digest{statement.ComponentConfiguration: g.boot.Conditions.Configuration},", "", "ForeignImageBundle$"},
		{"image", judge, "Allow(names, at), imageErr}", "Allow(names, at)}", "ForeignImage$"},
		{"instance is admitted once", ledger, "os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW", "os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW", "TwoServersAtOnce$"},
		{"a trust domain has a register", judge, `if e.Register == "" || allZero(e.Register) {`, `if e.Register == "" {`, "StillRegister$"},
		{"the ledger is asked", server, "err = s.config.Ledger.Record(entry)", "err = nil", "SecondAdmission$"},
		{"recorded before it is released", server, "err = s.config.Ledger.Record(entry)", "go func() { _ = s.config.Ledger.Record(entry) }()", "KilledServer$"},
	} {
		t.Run(row.check, func(t *testing.T) {
			t.Parallel()
			m := mutant.Mutant{Check: row.check, File: "dispatch/admission/" + row.file, Old: row.old, New: row.with}
			mutant.Run(t, m, "dispatch/admission", "^TestAttack"+row.attack)
		})
	}
	t.Run("key is admitted once", func(t *testing.T) {
		t.Parallel()
		const file = "dispatch/admission/" + ledger
		mutant.Run(t, mutant.Mutant{
			Check: "key is admitted once", File: file,
			Old: "if err := l.disk.link(instance, environment); errors.Is(err, fs.ErrExist) {",
			New: "if err := l.disk.link(instance, environment); errors.Is(err, fs.ErrExist) {\n\t\treturn nil\n\t} else if false {",
			// Who asks at the same moment is not seen by looking first.
			World: &mutant.Mutant{Check: "looking first", File: file, Old: "for _, name := range e.names() {", New: "for _, name := range []string{} {"},
		}, "dispatch/admission", "^TestAttackSharedKey$")
	})
}
