// SPDX-License-Identifier: Apache-2.0

//go:build !race

package attest_test

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"testing"

	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/evidence"
)

// The rows of this file are those of an insider: a machine that is honest but for one value, which it takes from another
// build, signs, quotes and names in all that follows. Each value that is not a claim of its own has to be caught against
// what stands elsewhere.

// TestAttackSubstitutedFields puts every value of one build's four statements into the other's, and drops every value.
func TestAttackSubstitutedFields(t *testing.T) {
	t.Parallel()
	m := newMatrix(ownWord())
	a, b := whole(t, attesttest.Options{}, "widget"), later(t, otherBuild(), "gadget")
	req := asking(t)
	t.Run("statements", func(t *testing.T) {
		for kind, lines := range map[string][2][]byte{
			"boot": {a.Boot, b.Boot}, "dispatch": {a.Dispatch, b.Dispatch}, "provenance": {a.Provenance, b.Provenance}, "response": {a.Response, b.Response},
		} {
			t.Run(kind, func(t *testing.T) {
				t.Parallel()
				ours, theirs := values(document(t, payloadOf(t, lines[0]))), values(document(t, payloadOf(t, lines[1])))
				try := func(name string, l leaf) {
					made := whole(t, attesttest.Options{Hooks: attesttest.Hooks{Payload: func(k string, payload []byte) []byte {
						if k != kind {
							return payload
						}
						return encoded(t, with(document(t, payload), l))
					}}}, "widget")
					m.add(t, kind+" "+name, judge(t, req, made.Artifact, made.Bytes()))
				}
				for path := range theirs {
					l := theirs[path]
					if _, inside := ours[leaf{path: l.path[:len(l.path)-1]}.String()]; !inside && len(l.path) > 1 {
						continue // it comes with what holds it
					}
					if our, has := ours[path]; !has {
						try(path+" added", l)
					} else if !reflect.DeepEqual(our.value, l.value) {
						try(path+" of the other", l)
					}
				}
				for path, our := range ours {
					if last := our.path[len(our.path)-1]; last == 0 || reflect.TypeOf(last).Kind() != reflect.Int { // one of a list is enough
						try(path+" dropped", leaf{path: our.path})
					}
				}
			})
		}
	})
	m.check(t, "fields.txt")
}

// ownWord names the values that only one statement says: nothing else can contradict them. They are the environment's
// word, from before the job for BOOT and DISPATCH, and of the moment of the response for provenance.
func ownWord() map[string]string {
	const (
		boot, dispatch, response = "boot predicate.attributes[0].", "dispatch predicate.attributes[0].", "response predicate.attributes[0]."
		build, run               = "provenance predicate.buildDefinition.", "provenance predicate.runDetails."
		kettle                   = build + "internalParameters.kettle."
		label                    = "a label: the digest or the URI beside it decides"
		version                  = "the version of kettled; the measurement decides"
		clock                    = "the machine's clock, which the host sets"
		parameter                = "a parameter of the job that DISPATCH does not hold"
		conduct                  = "what the environment saw until the response"
		origin                   = "who vouches for the provenance's word; DISPATCH has its own"
		image                    = "a hint where the image comes from; the measurement decides"
		runner                   = "DISPATCH alone says it"
	)
	return map[string]string{
		boot + "conditions.bootedOn": clock, boot + "conditions.software": version, boot + "target.name": label,
		dispatch + "target.name": label, dispatch + "evidence.name": label, dispatch + "evidence.mediaType": label,
		dispatch + "conditions.dispatchedOn": clock, dispatch + "conditions.facts.runnerId": runner, dispatch + "conditions.facts.jobMessage": runner,
		response + "target.name": label, response + "target.mediaType": label, response + "evidence.name": label, response + "evidence.mediaType": label,
		build + "externalParameters.inputs": parameter, build + "externalParameters.runsOn": parameter, build + "externalParameters.vars": parameter,
		build + "externalParameters.matrix": parameter, build + "externalParameters.eventPayload": parameter, build + "externalParameters.debug": parameter,
		build + "externalParameters.secretNames": parameter, build + "externalParameters.container": parameter, build + "externalParameters.services": parameter,
		run + "byproducts": conduct, build + "resolvedDependencies[0].name": label, build + "resolvedDependencies[0].mediaType": label,
		build + "resolvedDependencies[0].annotations": label,
		kettle + "egress": conduct, kettle + "frozenMillis": conduct, kettle + "outputs": conduct, kettle + "sandbox": conduct, kettle + "steps": parameter,
		kettle + "origins":           origin,
		run + "builder of the other": version, run + "builder.version": version, run + "builder.builderDependencies": image, run + "metadata.startedOn": clock, run + "metadata.finishedOn": clock,
	}
}

// TestAttackSubstitutedContexts puts every value of the other build's contexts, of every purpose, into each context, and
// drops every value.
func TestAttackSubstitutedContexts(t *testing.T) {
	t.Parallel()
	m := newMatrix(map[string]string{})
	purposes := []binding.Purpose{binding.Boot, binding.Dispatch, binding.Response}
	theirs := map[binding.Purpose]any{}
	o := otherBuild()
	o.Hooks.Context = func(p binding.Purpose, context []byte) []byte {
		theirs[p] = document(t, context)
		return context
	}
	later(t, o, "gadget")
	req := asking(t)
	try := func(purpose binding.Purpose, name string, change func(context any) any) {
		same := false
		made := whole(t, attesttest.Options{Hooks: attesttest.Hooks{Context: func(p binding.Purpose, context []byte) []byte {
			if p != purpose {
				return context
			}
			changed := encoded(t, change(document(t, context)))
			same = bytes.Equal(changed, context)
			return changed
		}}}, "widget")
		if !same {
			m.add(t, string(purpose)+" "+name, judge(t, req, made.Artifact, made.Bytes()))
		}
	}
	for _, purpose := range purposes {
		for _, donor := range purposes {
			try(purpose, fmt.Sprintf("whole of the other %s", donor), func(any) any { return theirs[donor] })
			for path, l := range values(theirs[donor]) {
				if path != "v" && (path != "purpose" || donor != purpose) {
					try(purpose, fmt.Sprintf("%s of the other %s", path, donor), func(c any) any { return with(c, l) })
				}
			}
		}
		for path, l := range values(theirs[purpose]) {
			try(purpose, path+" dropped", func(c any) any { return with(c, leaf{path: l.path}) })
		}
		for _, other := range []binding.Purpose{binding.Admission, binding.Final} {
			try(purpose, "purpose "+string(other), func(c any) any { return with(c, leaf{[]any{"purpose"}, string(other)}) })
		}
		try(purpose, "hpkeKey added", func(c any) any { return with(c, leaf{[]any{"hpkeKey"}, binding.Digest{1}.String()}) })
		try(purpose, "v 2", func(c any) any { return with(c, leaf{[]any{"v"}, 2}) })
	}
	m.check(t, "contexts.txt")
}

// TestAttackSubstitutedEvidence puts every item of the other build's evidence, of every purpose, into each evidence. What
// comes after names the evidence as it is then.
func TestAttackSubstitutedEvidence(t *testing.T) {
	t.Parallel()
	m := newMatrix(map[string]string{})
	b := later(t, otherBuild(), "gadget")
	theirs := map[string]*evidence.Collection{}
	for purpose, line := range map[string][]byte{"boot": b.BootEvidence, "dispatch": b.DispatchEvidence, "response": b.ResponseEvidence} {
		c, err := evidence.Parse(line)
		fatal(t, err)
		theirs[purpose] = c
	}
	req := asking(t)
	try := func(purpose, name string, change func(*evidence.Collection)) {
		var h attesttest.Hooks
		*map[string]*func(*evidence.Collection){
			"boot": &h.BootEvidence, "dispatch": &h.DispatchEvidence, "response": &h.ResponseEvidence,
		}[purpose] = change
		made := whole(t, attesttest.Options{Hooks: h}, "widget")
		m.add(t, purpose+" "+name, judge(t, req, made.Artifact, made.Bytes()))
	}
	for purpose := range theirs {
		for donor, c := range theirs {
			try(purpose, "whole of the other "+donor, func(own *evidence.Collection) { *own = *c })
			for item := range items(c) {
				if item != "endorsements" || donor == purpose { // they are the same for all quotes of one machine
					try(purpose, item+" of the other "+donor, func(own *evidence.Collection) { *items(own)[item] = *items(c)[item] })
				}
			}
		}
	}
	m.check(t, "evidence.txt")
}

// items gives the items of evidence by their names.
func items(c *evidence.Collection) map[string]*[]byte {
	return map[string]*[]byte{
		"report": &c.Report, "endorsements": &c.Leaf, "binding": &c.Binding, "public-key": &c.PublicKey, "event-log": &c.EventLog,
	}
}

// TestAttackSubstitutedClaims puts every claim of another job's token into the token of DISPATCH, signed by GitHub, and
// drops every claim; and it puts whole tokens of other jobs there.
func TestAttackSubstitutedClaims(t *testing.T) {
	t.Parallel()
	m := newMatrix(map[string]string{
		"sub of the other": "the subject can be customised; nothing is keyed on it",
		"sub dropped":      "the subject can be customised; nothing is keyed on it",
		"jti of the other": "the identifier names the token and not the job",
		"jti dropped":      "the identifier names the token and not the job",
		"iat of the other": "within the time that a token may be judged at",
		"nbf of the other": "within the time that a token may be judged at",
		"exp of the other": "within the time that a token may be judged at",
	})
	var theirs, ours map[string]any
	o, token := otherBuild(), ""
	claims := o.Hooks.Claims
	o.Hooks.Claims = func(c map[string]any) { claims(c); theirs = maps.Clone(c) }
	o.Hooks.Payload = func(kind string, payload []byte) []byte {
		if kind == "dispatch" {
			token, _ = values(document(t, payload))["predicate.attributes[0].conditions.token"].value.(string)
		}
		return payload
	}
	whole(t, o, "gadget")
	whole(t, attesttest.Options{Hooks: attesttest.Hooks{Claims: func(c map[string]any) { ours = maps.Clone(c) }}}, "widget")
	req := asking(t)
	try := func(name string, h attesttest.Hooks) {
		made := whole(t, attesttest.Options{Hooks: h}, "widget")
		m.add(t, name, judge(t, req, made.Artifact, made.Bytes()))
	}
	for name, value := range theirs {
		if !reflect.DeepEqual(ours[name], value) {
			try(name+" of the other", attesttest.Hooks{Claims: func(c map[string]any) { c[name] = value }})
		}
	}
	for name := range ours {
		try(name+" dropped", attesttest.Hooks{Claims: func(c map[string]any) { delete(c, name) }})
	}
	try("whole token of the other", attesttest.Hooks{Payload: func(kind string, payload []byte) []byte {
		if kind != "dispatch" {
			return payload
		}
		return encoded(t, with(document(t, payload), leaf{[]any{"predicate", "attributes", 0, "conditions", "token"}, token}))
	}})
	m.check(t, "claims.txt")
}
