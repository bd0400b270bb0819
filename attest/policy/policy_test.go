// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

const whole = `apiVersion: kettle/v1
expires: 2027-06-01
jobs:
  repositories:
    - {url: https://github.com/acme/widget, id: 1296269, ownerId: 583231}
  workflows: [.github/workflows/release.yml]
  refs: [refs/heads/main, refs/tags/v*]
  events: [push, pull_request]
  identitySource: any
environments:
  platforms: [snp]
  floor: strict
  revocation: required
  images: any
  measurements:
    - "111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111"
  lateCompromise: [token]
revoked: none
artifacts:
  builders: [https://github.com/kettle/attest/builders/snp/default/v1]
  repositories:
    - {url: https://github.com/acme/*, id: any, ownerId: "583231"}
  workflows: any
  refs: any
  events: [push]
  identitySource: token
`

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func facts() statement.Facts {
	return statement.Facts{
		Server: "https://github.com", Repository: "acme/widget", RepositoryID: "1296269", RepositoryOwnerID: "583231",
		WorkflowPath: ".github/workflows/release.yml", Ref: "refs/tags/v1.2.3", Event: "push",
		IdentitySource: statement.IdentityToken,
	}
}

func parse(t *testing.T, text string) *Policy {
	t.Helper()
	p, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWhole(t *testing.T) {
	t.Parallel()
	p := parse(t, whole)
	if err := p.Jobs().Allow(facts(), now); err != nil {
		t.Errorf("jobs: %v", err)
	}
	if err := p.Artifacts().Allow("https://github.com/kettle/attest/builders/snp/default/v1", facts(), now); err != nil {
		t.Errorf("artifacts: %v", err)
	}
	if err := p.Environments().Allow(environment(), now); err != nil {
		t.Errorf("environments: %v", err)
	}
	if floor, err := p.Environments().Floor(now); err != nil || floor != FloorStrict {
		t.Errorf("floor %q, %v", floor, err)
	}
	if req, err := p.Environments().Requires(now); err != nil || !slices.Equal(req, []LateCompromise{Token}) {
		t.Errorf("requires %v, %v", req, err)
	}
	want := []string{
		"jobs.identitySource: any", "environments.images: any", "revoked: none", "artifacts.repositories[0].id: any", "artifacts.workflows: any", "artifacts.refs: any",
	}
	if got := p.Open(); !slices.Equal(got, want) {
		t.Errorf("open places %q, want %q", got, want)
	}
	if at, dated := p.Expires(); !dated || !at.Equal(time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("expires %v %v", at, dated)
	}
	if p.Digest() != binding.Sum([]byte(whole)) {
		t.Error("the digest is not that of the exact bytes")
	}
}

func environment() Environment {
	e := Environment{Platform: "snp", ChipID: [64]byte{7}}
	for i := range e.Measurement {
		e.Measurement[i] = 0x11
	}
	return e
}

func TestJobsRefuse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*statement.Facts)
		want   error
		field  string
	}{
		"server":          {func(f *statement.Facts) { f.Server = "https://ghes.acme.example" }, refusal.ErrIdentity, "repositories"},
		"repository":      {func(f *statement.Facts) { f.Repository = "acme/widget2" }, refusal.ErrIdentity, "repositories"},
		"name reused":     {func(f *statement.Facts) { f.RepositoryID = "1296270" }, refusal.ErrIdentity, "repositories"},
		"owner reused":    {func(f *statement.Facts) { f.RepositoryOwnerID = "5832310" }, refusal.ErrIdentity, "repositories"},
		"workflow":        {func(f *statement.Facts) { f.WorkflowPath = ".github/workflows/release.yml.bak" }, refusal.ErrIdentity, "workflows"},
		"no workflow":     {func(f *statement.Facts) { f.WorkflowPath = "" }, refusal.ErrIdentity, "workflows"},
		"ref":             {func(f *statement.Facts) { f.Ref = "refs/heads/main2" }, refusal.ErrIdentity, "refs"},
		"ref over slash":  {func(f *statement.Facts) { f.Ref = "refs/tags/v1/x" }, refusal.ErrIdentity, "refs"},
		"unknown event":   {func(f *statement.Facts) { f.Event = "brand_new" }, refusal.ErrPolicy, "events"},
		"no event":        {func(f *statement.Facts) { f.Event = "" }, refusal.ErrPolicy, "events"},
		"target":          {func(f *statement.Facts) { f.Event, f.HeadRepositoryID = "pull_request_target", "1296269" }, refusal.ErrPolicy, "events"},
		"fork":            {func(f *statement.Facts) { f.Event, f.HeadRepositoryID = "pull_request", "99" }, refusal.ErrPolicy, "events"},
		"head not known":  {func(f *statement.Facts) { f.Event = "pull_request" }, refusal.ErrPolicy, "events"},
		"identity source": {func(f *statement.Facts) { f.IdentitySource = "" }, refusal.ErrIdentity, "identitySource"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := facts()
			tc.change(&f)
			err := parse(t, whole).Jobs().Allow(f, now)
			if !errors.Is(err, tc.want) || !errors.Is(err, refusal.ErrNotVerified) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if all := refusal.All(err); len(all) != 1 || !strings.Contains(all[0].Want, "jobs."+tc.field) {
				t.Errorf("refusals %v, want one about jobs.%s", all, tc.field)
			}
		})
	}
	f := facts()
	f.Event, f.HeadRepositoryID = "pull_request", f.RepositoryID
	if err := parse(t, whole).Jobs().Allow(f, now); err != nil {
		t.Errorf("pull request of the same repository: %v", err)
	}
	f.HeadRepositoryID = "99"
	forks := strings.Replace(whole, "events: [push, pull_request]", `events: ["pull_request:fork"]`, 1)
	if err := parse(t, forks).Jobs().Allow(f, now); err != nil {
		t.Errorf("a fork where forks are written out: %v", err)
	}
	if all := refusal.All(parse(t, whole).Jobs().Allow(statement.Facts{}, now)); len(all) != 5 {
		t.Errorf("empty facts: %d refusals, want one for each field: %v", len(all), all)
	}
}

func TestEnvironmentsRefuse(t *testing.T) {
	t.Parallel()
	chips := strings.Replace(whole, "floor: strict", "floor: default\n  chips: [\"07"+strings.Repeat("00", 63)+"\"]", 1)
	if err := parse(t, chips).Environments().Allow(environment(), now); err != nil {
		t.Errorf("chip of the list: %v", err)
	}
	tests := map[string]struct {
		text   string
		change func(*Environment)
		want   error
	}{
		"platform":       {whole, func(e *Environment) { e.Platform = "sim" }, refusal.ErrPolicy},
		"no platform":    {whole, func(e *Environment) { e.Platform = "" }, refusal.ErrPolicy},
		"measurement":    {whole, func(e *Environment) { e.Measurement[47] ^= 1 }, refusal.ErrMeasurement},
		"no measurement": {whole, func(e *Environment) { e.Measurement = [48]byte{} }, refusal.ErrMeasurement},
		"chip":           {chips, func(e *Environment) { e.ChipID[63] ^= 1 }, refusal.ErrPolicy},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := environment()
			tc.change(&e)
			if err := parse(t, tc.text).Environments().Allow(e, now); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestArtifactsRefuse(t *testing.T) {
	t.Parallel()
	const builder = "https://github.com/kettle/attest/builders/snp/default/v1"
	tests := map[string]struct {
		builder string
		change  func(*statement.Facts)
		want    error
	}{
		"simulator":  {"https://github.com/kettle/attest/builders/sim/default/v1", func(*statement.Facts) {}, refusal.ErrPolicy},
		"no builder": {"", func(*statement.Facts) {}, refusal.ErrPolicy},
		"owner":      {builder, func(f *statement.Facts) { f.Repository = "evil/widget" }, refusal.ErrIdentity},
		"nested":     {builder, func(f *statement.Facts) { f.Repository = "acme/x/y" }, refusal.ErrIdentity},
		"owner id":   {builder, func(f *statement.Facts) { f.RepositoryOwnerID = "1" }, refusal.ErrIdentity},
		"source":     {builder, func(f *statement.Facts) { f.IdentitySource = statement.IdentityJobsAPI }, refusal.ErrIdentity},
		"event":      {builder, func(f *statement.Facts) { f.Event = "workflow_dispatch" }, refusal.ErrPolicy},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := facts()
			tc.change(&f)
			if err := parse(t, whole).Artifacts().Allow(tc.builder, f, now); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestNoSectionRefuses(t *testing.T) {
	t.Parallel()
	p := parse(t, "apiVersion: kettle/v1\nexpires: never\n")
	_, floorErr := p.Environments().Floor(now)
	_, reqErr := p.Environments().Requires(now)
	for name, err := range map[string]error{
		"jobs": p.Jobs().Allow(facts(), now), "environments": p.Environments().Allow(environment(), now),
		"artifacts": p.Artifacts().Allow("b", facts(), now), "floor": floorErr, "requires": reqErr,
		"nil policy": (*Policy)(nil).Jobs().Allow(facts(), now),
	} {
		if !errors.Is(err, refusal.ErrPolicy) {
			t.Errorf("%s: %v, want a policy refusal", name, err)
		}
	}
	if !slices.Equal(p.Open(), []string{"expires: never"}) {
		t.Errorf("open %q", p.Open())
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	p := parse(t, whole)
	end := time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		at   time.Time
		want bool
	}{
		"before": {end.Add(-time.Second), true}, "at": {end, false}, "after": {end.Add(time.Second), false}, "no time": {time.Time{}, false},
	} {
		if err := p.Jobs().Allow(facts(), tc.at); (err == nil) != tc.want {
			t.Errorf("%s: %v", name, err)
		}
		if err := p.Environments().Allow(environment(), tc.at); (err == nil) != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	change := func(old, with string) string {
		if !strings.Contains(whole, old) {
			panic(old)
		}
		return strings.Replace(whole, old, with, 1)
	}
	tests := map[string]struct{ text, want string }{
		"empty":               {"", "empty"},
		"not yaml":            {"a: [", "YAML"},
		"version":             {change("kettle/v1", "kettle/v2"), "apiVersion"},
		"no version":          {change("apiVersion: kettle/v1\n", ""), "apiVersion"},
		"no expiry":           {change("expires: 2027-06-01\n", ""), "expires is missing"},
		"bad expiry":          {change("2027-06-01", "soon"), "expires"},
		"unknown section":     {whole + "rules: []\n", "rules"},
		"unknown key":         {change("  refs: any", "  refs: any\n  ref: any"), "ref"},
		"unknown repo key":    {change("ownerId: 583231", "ownerId: 583231, name: x"), "unknown or repeated"},
		"repeated key":        {change("  refs: any\n", "  refs: any\n  refs: any\n"), "already defined"},
		"repeated repo key":   {change("ownerId: 583231", "ownerId: 583231, ownerId: 1"), "repeated"},
		"two documents":       {whole + "---\n" + whole, "more than one document"},
		"anchor":              {change("[push]", "&a [push]"), "anchors"},
		"alias":               {change("[push]", "*a"), ""},
		"merge":               {change("  refs: any", "  refs: any\n  <<: {events: [x]}"), "merge"},
		"tag":                 {change("[push]", "!!seq [push]"), "tags"},
		"null":                {change("refs: any", "refs:"), "missing"},
		"null section":        {"apiVersion: kettle/v1\nexpires: never\njobs: ~\n", "missing"},
		"empty list":          {change("[push]", "[]"), "empty"},
		"no list":             {change("  events: [push]\n", ""), "artifacts.events is missing"},
		"any event":           {change("events: [push]", "events: any"), "want a list"},
		"event glob":          {change("events: [push]", "events: [p*]"), "name of an event"},
		"any platform":        {change("platforms: [snp]", "platforms: any"), "want a list"},
		"any builder":         {change("builders: [https://github.com/kettle/attest/builders/snp/default/v1]", "builders: any"), "want a list"},
		"builder glob":        {change("snp/default/v1]", "*]"), "exact name"},
		"any repository":      {change("    - {url: https://github.com/acme/*, id: any, ownerId: \"583231\"}", "    any"), "want a list"},
		"no repository":       {change("  repositories:\n    - {url: https://github.com/acme/*, id: any, ownerId: \"583231\"}\n", ""), "repositories is missing"},
		"repository as text":  {change("{url: https://github.com/acme/*, id: any, ownerId: \"583231\"}", "acme/widget"), "want {url"},
		"no repository id":    {change("id: 1296269, ", ""), "id: want the numeric id"},
		"hex repository id":   {change("1296269", "0x13"), "numeric"},
		"both ids any":        {change("ownerId: \"583231\"", "ownerId: any"), "cannot both be any"},
		"http":                {change("https://github.com/acme/widget", "http://github.com/acme/widget"), "https"},
		"server glob":         {change("https://github.com/acme/widget", "https://*/acme/widget"), "server"},
		"match all":           {change("[refs/heads/main, refs/tags/v*]", "['**']"), "write any"},
		"match all with path": {change("[refs/heads/main, refs/tags/v*]", "['**/*']"), "write any"},
		"class":               {change("refs/tags/v*", "'refs/tags/v[0-9]'"), "not allowed"},
		"regex":               {change("refs/tags/v*", "'^refs/tags/v'"), "not allowed"},
		"three stars":         {change("refs/tags/v*", "refs/***"), "stars"},
		"twice":               {change("[refs/heads/main, refs/tags/v*]", "[a, a]"), "twice"},
		"no floor":            {change("  floor: strict\n", ""), "floor is missing"},
		"floor":               {change("floor: strict", "floor: any"), "floor"},
		"lowered, no chips":   {change("floor: strict", "floor: default"), "chips is missing"},
		"chip of 63 bytes":    {change("floor: strict", "floor: default\n  chips: ['"+strings.Repeat("01", 63)+"']"), "128 lower-case"},
		"upper case":          {change("\"1111", "\"AAAA"), "lower-case"},
		"zero measurement":    {change(strings.Repeat("1", 96), strings.Repeat("0", 96)), "zeros"},
		"short measurement":   {change(strings.Repeat("1", 96), "11"), "96 lower-case"},
		"no late compromise":  {change("  lateCompromise: [token]\n", ""), "lateCompromise is missing: write a list, or none"},
		"late compromise":     {change("[token]", "[vsa-env]"), "lateCompromise"},
		"none among others":   {change("[token]", "[token, none]"), "lateCompromise"},
		"identity source":     {change("identitySource: token", "identitySource: job"), "identitySource"},
		"no identity source":  {change("  identitySource: token\n", ""), "identitySource is missing"},
		"mapping as list":     {change("events: [push]", "events: {push: yes}"), "want a list"},
		"nested list":         {change("events: [push]", "events: [[push]]"), "want text"},
		"too large":           {whole + "#" + strings.Repeat("x", MaxFile), "at most"},
		"too deep":            {"a: " + strings.Repeat("[", 20) + strings.Repeat("]", 20), "deeper"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := Parse([]byte(tc.text))
			if !errors.Is(err, ErrInvalid) || p != nil {
				t.Fatalf("got %v, %v; want no policy and ErrInvalid", p, err)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v\ndoes not say %q", err, tc.want)
			}
		})
	}
}

// TestFaultsAreJoined shows that a person who writes a policy sees all faults at once.
func TestFaultsAreJoined(t *testing.T) {
	t.Parallel()
	_, err := Parse([]byte("apiVersion: kettle/v1\njobs: {events: [push]}\nenvironments: {platforms: [snp]}\n"))
	for _, want := range []string{
		"expires", "jobs.repositories", "jobs.workflows", "jobs.refs", "jobs.identitySource", "environments.floor",
		"environments.chips", "environments.measurements", "environments.images", "revoked", "environments.lateCompromise",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word about %s in %v", want, err)
		}
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		glob, s string
		want    bool
	}{
		{"refs/tags/v*", "refs/tags/v1", true},
		{"refs/tags/v*", "refs/tags/v", true},
		{"refs/tags/v*", "refs/tags/v1/2", false},
		{"refs/tags/v*", "xrefs/tags/v1", false},
		{"refs/**", "refs/heads/a/b", true},
		{"refs/**/b", "refs/b", false},
		{"refs/**/b", "refs/a/c/b", true},
		{"*/b", "a/b", true},
		{"*/b", "a/a/b", false},
		{"a*b*c", "axxbyyc", true},
		{"a*b*c", "axxbyy", false},
		{"a", "", false},
		{"a.b", "axb", false},
		{"v1+x", "v1+x", true},
		{"**a", strings.Repeat("a", maxValue+1), false},
	} {
		if got := match(tc.glob, tc.s); got != tc.want {
			t.Errorf("match(%q, %q) = %v", tc.glob, tc.s, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("apiVersion: kettle/v1\nexpires: never\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if (p == nil) == (err == nil) {
			t.Fatal("a policy and an error, or neither")
		}
		if err != nil {
			return
		}
		if p.Jobs().Allow(statement.Facts{}, now) == nil || p.Environments().Allow(Environment{}, now) == nil ||
			p.Artifacts().Allow("", statement.Facts{}, now) == nil {
			t.Fatal("a policy accepts empty facts")
		}
	})
}
