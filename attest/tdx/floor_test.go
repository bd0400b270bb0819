// SPDX-License-Identifier: Apache-2.0

package tdx_test

import (
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/attest/tdx/tdxtest"
)

// status gives a change of the statuses of the levels that a good platform reaches.
func status(platform, module, qe string) func(s *scene) {
	return described(func(c *tdxtest.Collateral) {
		c.TCBInfo.Levels[0].Status, c.TCBInfo.Modules[0].Levels[0].Status, c.QEIdentity.Levels[0].Status = platform, module, qe
		c.TCBInfo.Levels[0].Advisories = []string{"INTEL-SA-1", "INTEL-SA-2"}
		c.TCBInfo.Modules[0].Levels[0].Advisories = []string{"INTEL-SA-2"}
		c.QEIdentity.Levels[0].Advisories = []string{"INTEL-SA-3"}
	})
}

// TestConvergedStatus: the worst of three, by Intel's rules; only "UpToDate" passes.
func TestConvergedStatus(t *testing.T) {
	t.Parallel()
	const up, hard, conf, both, out, outConf, rev = "UpToDate", "SWHardeningNeeded", "ConfigurationNeeded",
		"ConfigurationAndSWHardeningNeeded", "OutOfDate", "OutOfDateConfigurationNeeded", "Revoked"
	for _, c := range [][4]string{ // platform, module, QE, converged
		{up, up, up, up},
		{hard, up, up, hard}, {conf, up, up, conf}, {both, up, up, both}, {out, up, up, out}, {outConf, up, up, outConf}, {rev, up, up, rev},
		{up, out, up, out}, {hard, out, up, out}, {conf, out, up, outConf}, {both, out, up, outConf}, {out, out, up, out}, {outConf, out, up, outConf},
		{up, rev, up, rev}, {rev, out, up, rev}, {out, rev, up, rev},
		{up, up, out, out}, {hard, up, out, out}, {conf, up, out, outConf}, {both, up, out, outConf}, {outConf, up, out, outConf}, {rev, up, out, rev},
		{up, up, rev, rev}, {conf, out, rev, rev}, {up, up, hard, out}, {conf, hard, up, outConf},
	} {
		s := newScene()
		status(c[0], c[1], c[2])(s)
		tcb := s.tcb(t)
		if string(tcb.Status) != c[3] || string(tcb.Platform) != c[0] || string(tcb.Module) != c[1] || string(tcb.QE) != c[2] {
			t.Errorf("%v: %s", c, tcb)
		}
		if got := strings.Join(tcb.Advisories, " "); got != "INTEL-SA-1 INTEL-SA-2 INTEL-SA-3" {
			t.Errorf("%v: advisories %s", c, got)
		}
		for _, f := range []floor.Floor{floor.Default, floor.Strict} {
			err := s.meets(t, f, tdx.Direct)
			if c[3] == up {
				if err != nil {
					t.Error(err)
				}
				continue
			}
			wantFirst(t, err, refusal.TCB)
			for _, want := range append(c[:], "INTEL-SA-3") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %s in: %v", want, err)
				}
			}
		}
		if err := s.meets(t, floor.Signature, tdx.Direct); err != nil {
			t.Errorf("signature: %v", err)
		}
	}
}

func (s *scene) tcb(t testing.TB) tdx.TCB {
	t.Helper()
	q, p, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	d := p.NewCollateral()
	if s.collateral != nil {
		s.collateral(p, &d)
	}
	c, err := tdx.ParseCollateral(p.Collateral(d).JSON())
	if err != nil {
		t.Fatal(err)
	}
	tcb, err := q.TCB(c, p.Day())
	if err != nil {
		t.Fatal(err)
	}
	return tcb
}

// TestLevels: which levels a platform reaches.
func TestLevels(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change   func(s *scene)
		platform tdx.Status
		module   tdx.Status
		none     bool // no level at all
	}{
		"exact":                       {change: func(*scene) {}, platform: tdx.UpToDate, module: tdx.UpToDate},
		"PCE behind":                  {change: func(s *scene) { s.config.PCESVN = 10 }, platform: tdx.OutOfDate, module: tdx.UpToDate},
		"one SGX component behind":    {change: func(s *scene) { s.config.SVNs = [16]byte{9, 9, 9, 9, 9, 1, 0, 4} }, platform: tdx.OutOfDate, module: tdx.UpToDate},
		"no level for SGX components": {change: func(s *scene) { s.config.SVNs = [16]byte{0, 9} }, none: true},
		"TDX component 2 behind":      {change: func(s *scene) { s.quote.Body.TEETCBSVN = [16]byte{6, 1, 1} }, none: true},
		"module's own components": {change: described(func(c *tdxtest.Collateral) {
			c.TCBInfo.Levels[0] = tdxtest.PlatformLevel(tdxtest.SVNs(), 11, [16]byte{9, 9, 2}, "UpToDate")
		}), platform: tdx.UpToDate, module: tdx.UpToDate},
		"module behind":           {change: func(s *scene) { s.quote.Body.TEETCBSVN = [16]byte{3, 1, 3} }, platform: tdx.UpToDate, module: tdx.OutOfDate},
		"no level for the module": {change: func(s *scene) { s.quote.Body.TEETCBSVN = [16]byte{1, 1, 3} }, none: true},
		"unknown module":          {change: func(s *scene) { s.quote.Body.TEETCBSVN = [16]byte{9, 2, 3} }, none: true},
		"module of TDX 1.0":       {change: func(s *scene) { s.quote.Body.TEETCBSVN = [16]byte{5, 0, 2} }, platform: tdx.UpToDate, module: tdx.UpToDate},
		"old module of TDX 1.0":   {change: func(s *scene) { s.quote.Body.TEETCBSVN = [16]byte{4, 0, 2} }, platform: tdx.OutOfDate, module: tdx.UpToDate},
		"older module of TDX 1.0": {change: func(s *scene) { s.quote.Body.TEETCBSVN = [16]byte{2, 0, 2} }, none: true},
		"QE without level":        {change: func(s *scene) { s.quote.Enclave.SVN = 1 }, none: true},
	} {
		s := newScene()
		c.change(s)
		if c.none {
			wantFirst(t, s.meets(t, floor.Default, tdx.Direct), refusal.TCB)
			continue
		}
		if tcb := s.tcb(t); tcb.Platform != c.platform || tcb.Module != c.module {
			t.Errorf("%s: %s", name, tcb)
		}
	}
}

// TestRelaunch: a module updated under a running TD needs a new launch, nothing else.
func TestRelaunch(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(s *scene)
		want   tdx.Status
	}{
		"updated":            {func(*scene) {}, tdx.TDRelaunchAdvised},
		"not updated":        {func(s *scene) { s.quote.Body.TEETCBSVN2 = [16]byte{3, 1, 3} }, tdx.OutOfDate},
		"component 2 behind": {func(s *scene) { s.quote.Body.TEETCBSVN2 = [16]byte{6, 1, 1} }, tdx.OutOfDate},
		"unknown module":     {func(s *scene) { s.quote.Body.TEETCBSVN2 = [16]byte{6, 7, 3} }, tdx.OutOfDate},
		"to module 1.0":      {func(s *scene) { s.quote.Body.TEETCBSVN2 = [16]byte{5, 0, 2} }, tdx.TDRelaunchAdvised},
		"to old module 1.0":  {func(s *scene) { s.quote.Body.TEETCBSVN2 = [16]byte{4, 0, 2} }, tdx.OutOfDate},
		"body of TDX 1.0":    {func(s *scene) { s.quote.BodyType = 2 }, tdx.OutOfDate},
		"configuration": {described(func(c *tdxtest.Collateral) { c.TCBInfo.Levels[0].Status = "ConfigurationNeeded" }),
			tdx.TDRelaunchAdvisedConfigurationNeeded},
		"platform behind too": {func(s *scene) { s.config.PCESVN = 5 }, tdx.OutOfDate},
		"QE behind too":       {func(s *scene) { s.quote.Enclave.SVN = 3 }, tdx.OutOfDate},
	} {
		s := newScene()
		s.quote.Version, s.quote.BodyType, s.quote.Body.TEETCBSVN = 5, 3, [16]byte{3, 1, 3}
		c.change(s)
		if tcb := s.tcb(t); tcb.Status != c.want {
			t.Errorf("%s: %s", name, tcb)
		}
		wantFirst(t, s.meets(t, floor.Default, tdx.Direct), refusal.TCB)
	}
}

// TestAttackRollbackByEvaluationNumber: Intel signs fresh documents of older evaluation data on request, by which an
// outdated platform is still up to date. The number has to be the one in force when the document was issued.
func TestAttackRollbackByEvaluationNumber(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		issued        string
		info, qe      int
		usual, strict refusal.Code
	}{
		{"2026-06-01", 20, 20, "", ""},
		{"2026-06-01", 19, 20, "", refusal.TCB}, // in force, and more than half a year behind
		{"2026-06-01", 18, 20, refusal.TCB, refusal.TCB},
		{"2026-06-01", 20, 18, refusal.TCB, refusal.TCB}, // the lower of the two counts
		{"2026-05-26", 18, 18, "", refusal.TCB},          // Intel has two weeks to change over
		{"2026-05-27", 18, 18, refusal.TCB, refusal.TCB},
		{"2026-08-25", 19, 19, "", refusal.TCB},
		{"2026-08-26", 19, 19, refusal.TCB, refusal.TCB},
		{"2030-01-01", 20, 20, "", ""}, // this program knows no newer one
		{"2025-06-19", 17, 17, "", refusal.TCB},
		{"2024-06-01", 15, 15, "", ""}, // before the table
	} {
		day, err := time.Parse(time.DateOnly, c.issued)
		if err != nil {
			t.Fatal(err)
		}
		s := newScene()
		s.config.At = day
		described(func(d *tdxtest.Collateral) { d.TCBInfo.Evaluation, d.QEIdentity.Evaluation = c.info, c.qe })(s)
		for f, want := range map[floor.Floor]refusal.Code{floor.Default: c.usual, floor.Strict: c.strict} {
			if err := s.meets(t, f, tdx.Direct); want != "" {
				wantFirst(t, err, want)
			} else if err != nil {
				t.Errorf("%v at %s: %v", c, f, err)
			}
		}
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	const ve = 1 << 28
	for name, c := range map[string]struct {
		change                     func(b *tdxtest.Body)
		usual, strict, azureStrict refusal.Code
	}{
		"debug":             {func(b *tdxtest.Body) { b.Attributes |= 1 }, refusal.Debug, refusal.Debug, refusal.Debug},
		"profiling (bit 5)": {func(b *tdxtest.Body) { b.Attributes |= 1 << 5 }, refusal.Debug, refusal.Debug, refusal.Debug},
		"TUD (bit 7)":       {func(b *tdxtest.Body) { b.Attributes |= 1 << 7 }, refusal.Debug, refusal.Debug, refusal.Debug},
		"reserved (bit 8)":  {func(b *tdxtest.Body) { b.Attributes |= 1 << 8 }, refusal.Policy, refusal.Policy, refusal.Policy},
		"reserved (bit 40)": {func(b *tdxtest.Body) { b.Attributes |= 1 << 40 }, refusal.Policy, refusal.Policy, refusal.Policy},
		"migratable":        {func(b *tdxtest.Body) { b.Attributes |= 1 << 29 }, refusal.Policy, refusal.Policy, refusal.Policy},
		"perfmon":           {func(b *tdxtest.Body) { b.Attributes |= 1 << 63 }, refusal.Policy, refusal.Policy, refusal.Policy},
		"service (bit 62)":  {func(b *tdxtest.Body) { b.Attributes |= 1 << 62 }, refusal.Policy, refusal.Policy, refusal.Policy},
		"service TD":        {func(b *tdxtest.Body) { b.MRServiceTD[47] = 1 }, refusal.Policy, refusal.Policy, refusal.Policy},
		"harmless":          {func(b *tdxtest.Body) { b.Attributes |= 1<<27 | 1<<30 | 1<<31 }, "", "", ""},
		"#VE":               {func(b *tdxtest.Body) { b.Attributes &^= ve }, "", refusal.Policy, ""},
	} {
		s := newScene()
		s.quote.Version, s.quote.BodyType = 5, 3
		c.change(&s.quote.Body)
		for _, x := range []struct {
			f    floor.Floor
			g    tdx.Guest
			want refusal.Code
		}{
			{floor.Signature, tdx.Direct, ""}, {floor.Default, tdx.Direct, c.usual}, {floor.Strict, tdx.Direct, c.strict},
			{floor.Default, tdx.Paravisor, c.usual}, {floor.Strict, tdx.Paravisor, c.azureStrict},
		} {
			if err := s.meets(t, x.f, x.g); x.want != "" {
				wantFirst(t, err, x.want)
			} else if err != nil {
				t.Errorf("%s at %s: %v", name, x.f, err)
			}
		}
	}
}

// TestServiceTD: a service TD that is expected by its measurement, and by nothing else.
func TestServiceTD(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.quote.Version, s.quote.BodyType, s.quote.Body.MRServiceTD = 5, 3, [48]byte{1, 47: 1}
	q, p, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tdx.ParseCollateral(p.Collateral(p.NewCollateral()).JSON())
	if err != nil {
		t.Fatal(err)
	}
	for want, code := range map[[48]byte]refusal.Code{{1, 47: 1}: "", {}: refusal.Policy, {1}: refusal.Policy, {1, 47: 2}: refusal.Policy} {
		err := q.Meets(floor.Strict, tdx.Setting{Guest: tdx.Direct, ServiceTD: want}, c, p.Day())
		if code != "" {
			wantFirst(t, err, code)
		} else if err != nil {
			t.Error(err)
		}
	}
}

// TestOrder: the gravest reason comes first, and all are told.
func TestOrder(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.quote.Body.Attributes = 1 | 1<<29
	s.quote.Body.TEETCBSVN[0] = 3
	q, p, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tdx.ParseCollateral(p.Collateral(p.NewCollateral()).JSON())
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		err  error
		want string
	}{
		"all":           {q.Meets(floor.Strict, direct, c, p.Day()), "debug tcb policy policy"},
		"no collateral": {q.Meets(floor.Default, direct, nil, p.Day()), "debug endorsements-missing policy"},
		"zero":          {q.Meets(floor.Default, direct, &tdx.Collateral{}, p.Day()), "debug endorsements-missing policy"},
		"stale":         {q.Meets(floor.Default, direct, c, p.Day().AddDate(1, 0, 0)), "debug expired policy"},
		"no floor":      {q.Meets(0, direct, c, p.Day()), "missing"},
		"unknown floor": {q.Meets(9, direct, c, p.Day()), "missing"},
		"no guest":      {q.Meets(floor.Default, tdx.Setting{}, c, p.Day()), "missing"},
		"unknown guest": {q.Meets(floor.Signature, tdx.Setting{Guest: 3}, c, p.Day()), "missing"},
		"no time":       {q.Meets(floor.Default, direct, c, time.Time{}), "missing"},
		"nil quote":     {(*tdx.Quote)(nil).Meets(floor.Signature, direct, c, p.Day()), "missing"},
		"zero quote":    {(&tdx.Quote{}).Meets(floor.Signature, direct, c, p.Day()), "missing"},
	} {
		var codes []string
		for _, r := range refusal.All(x.err) {
			codes = append(codes, string(r.Code))
		}
		if got := strings.Join(codes, " "); got != x.want {
			t.Errorf("%s: %s, want %s", name, got, x.want)
		}
	}
	if _, err := q.TCB(c, time.Time{}); err == nil {
		t.Error("a TCB without a time")
	}
	if _, err := (&tdx.Quote{}).TCB(c, p.Day()); err == nil {
		t.Error("the TCB of no quote")
	}
	if z := (&tdx.Quote{}); z.Platform() != "" || z.PCKIssuer() != "" || !z.EndorsementExpires().IsZero() {
		t.Error("the zero quote is something")
	}
}

// TestAttackCollateralOfAnotherRoot: genuine collateral of Intel's says nothing of a simulator's platform, nor the other
// way round.
func TestAttackCollateralOfAnotherRoot(t *testing.T) {
	t.Parallel()
	v := tdxVector(t, "tdx15-v4-uptodate")
	genuine, err := tdx.Verify(v.quote, intelRoots(t), v.At)
	if err != nil {
		t.Fatal(err)
	}
	s := newScene()
	s.config.At = v.At.AddDate(0, 0, -1)
	played, p, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tdx.ParseCollateral(p.Collateral(p.NewCollateral()).JSON())
	if err != nil {
		t.Fatal(err)
	}
	wantFirst(t, genuine.Meets(floor.Default, direct, c, v.At), refusal.Chain)
	wantFirst(t, played.Meets(floor.Default, direct, v.parsed(t), v.At), refusal.Chain)
	// Intel's root certificate at the end of the forged issuer chain.
	files := p.Collateral(p.NewCollateral())
	for _, key := range []string{"tcb_info_issuer_chain", "qe_identity_issuer_chain"} {
		files[key] = string(p.PEM(tdxtest.TCBSigning)) + string(chainOf(t, v.quote, 2))
	}
	if c, err = tdx.ParseCollateral(files.JSON()); err != nil {
		t.Fatal(err)
	}
	wantFirst(t, genuine.Meets(floor.Default, direct, c, v.At), refusal.Chain)
}
