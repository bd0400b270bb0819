// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/kettle/attest/attest/statement"
)

// maxList bounds the entries of one list.
const maxList = 1024

// checker collects the faults of a file and the places where it is open.
type checker struct {
	faults []error
	open   []string
}

func (c *checker) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf(format, args...))
}

func (c *checker) opened(field, word string) { c.open = append(c.open, field+": "+word) }

func (c *checker) document(d *document) {
	if d.APIVersion != APIVersion {
		c.fault("apiVersion: want %q, got %q", APIVersion, d.APIVersion)
	}
	if d.Expires.absent() {
		c.fault("expires is missing: write a date, or never")
	}
	if d.Expires.never {
		c.opened("expires", wordNever)
	}
	if d.Jobs != nil {
		c.identity("jobs", d.Jobs)
	}
	if d.Environments != nil {
		c.environments(d.Environments)
		d.Environments.revoked = d.Revoked
	}
	if d.Environments != nil || d.Revoked != nil {
		c.revoked(d.Revoked)
	}
	if d.Artifacts != nil {
		c.list("artifacts.builders", &d.Artifacts.Builders, "", exactName)
		c.identity("artifacts", &d.Artifacts.identity)
	}
}

func (c *checker) identity(section string, i *identity) {
	c.repositories(section+".repositories", i.Repositories)
	c.list(section+".workflows", &i.Workflows, wordAny, checkGlob)
	c.list(section+".refs", &i.Refs, wordAny, checkGlob)
	c.list(section+".events", &i.Events, "", eventName)
	c.word(section+".identitySource", i.IdentitySource, statement.IdentityToken, statement.IdentityScaleSet, statement.IdentityJobsAPI, wordAny)
}

func (c *checker) repositories(field string, rs repositories) {
	if len(rs) == 0 {
		c.fault("%s is missing or empty: name at least one repository", field)
	}
	if len(rs) > maxList {
		c.fault("%s has more than %d entries", field, maxList)
		return
	}
	for n, r := range rs {
		c.repository(fmt.Sprintf("%s[%d]", field, n), r)
	}
}

func (c *checker) repository(at string, r repository) {
	c.url(at+".url", r.URL)
	c.id(at+".id", r.ID)
	c.id(at+".ownerId", r.OwnerID)
	if r.ID == wordAny && r.OwnerID == wordAny {
		c.fault("%s: id and ownerId cannot both be any: names are given to others", at)
	}
}

// url demands a URL whose server is written out; its path may be a glob.
func (c *checker) url(at, url string) {
	if !strings.HasPrefix(url, "https://") {
		c.fault("%s: want https://server/owner/name, got %q", at, url)
	} else if err := checkGlob(strings.TrimPrefix(url, "https://")); err != nil {
		c.fault("%s: %w", at, err)
	}
	if host, _, _ := strings.Cut(strings.TrimPrefix(url, "https://"), "/"); strings.Contains(host, "*") {
		c.fault("%s: the server has to be written out, got %q", at, url)
	}
}

func (c *checker) id(field, id string) {
	switch {
	case id == wordAny:
		c.opened(field, wordAny)
	case !numeric(id):
		c.fault("%s: want the numeric id that GitHub gave, or any, got %q", field, id)
	}
}

func (c *checker) environments(e *environments) {
	c.list("environments.platforms", &e.Platforms, "", exactName)
	c.word("environments.floor", e.Floor, FloorSignature, FloorDefault, FloorStrict)
	if e.Floor == FloorSignature || e.Floor == FloorDefault {
		c.opened("environments.floor", e.Floor)
	}
	if e.Floor != FloorStrict || !e.Chips.absent() {
		c.list("environments.chips", &e.Chips, wordAny, hexOf(64))
	}
	if !e.Providers.absent() {
		c.list("environments.providers", &e.Providers, "", providerName)
	}
	c.word("environments.revocation", e.Revocation, RevocationRequired, RevocationIfPresent)
	if e.Revocation == RevocationIfPresent {
		c.opened("environments.revocation", e.Revocation)
	}
	if slices.ContainsFunc(e.Platforms.values, func(p string) bool { return p != platformTPM }) || !e.Measurements.absent() {
		c.measurements(e)
	}
	c.images(&e.Images)
	c.registers(e)
	c.list("environments.lateCompromise", &e.LateCompromise, wordNone, func(v string) error {
		if v != string(RegisterReplay) && v != string(Token) && v != string(Admission) {
			return fmt.Errorf("want %s, %s or %s, got %q", RegisterReplay, Token, Admission, v)
		}
		return nil
	})
	c.admission(e)
}

// measurements checks the list, or the word signed, which needs somebody who signs.
func (c *checker) measurements(e *environments) {
	const field = "environments.measurements"
	if e.Measurements.word != wordSigned {
		c.list(field, &e.Measurements, wordAny, hexOf(48))
		return
	}
	if e.Images.word == wordAny {
		c.fault("%s: signed needs environments.images to say who signs", field)
	}
}

// list demands at least one value, each of the right shape, or the word that the field allows in place of a list.
func (c *checker) list(field string, l *list, word string, shape func(string) error) {
	switch {
	case l.absent() && word != "":
		c.fault("%s is missing: write a list, or %s", field, word)
	case l.absent():
		c.fault("%s is missing: write a list", field)
	case l.word != "" && l.word == word:
		c.opened(field, word)
	case l.word != "":
		c.fault("%s: want a list, got %q", field, l.word)
	case len(l.values) == 0:
		c.fault("%s is empty: it would refuse everything", field)
	case len(l.values) > maxList:
		c.fault("%s has more than %d entries", field, maxList)
	}
	seen := map[string]bool{}
	for n, v := range l.values {
		if err := shape(v); err != nil {
			c.fault("%s[%d]: %w", field, n, err)
		}
		if seen[v] {
			c.fault("%s[%d]: %q stands there twice", field, n, v)
		}
		seen[v] = true
	}
}

// word demands one of the words of the field.
func (c *checker) word(field, got string, words ...string) {
	if got == "" {
		c.fault("%s is missing: write %s", field, strings.Join(words, ", "))
		return
	}
	if !slices.Contains(words, got) {
		c.fault("%s: want %s, got %q", field, strings.Join(words, ", "), got)
	}
	if got == wordAny {
		c.opened(field, got)
	}
}

func exactName(v string) error {
	if v == "" || v == wordAny || v == wordNone || strings.ContainsAny(v, "* \t\r\n") {
		return fmt.Errorf("want an exact name, got %q", v)
	}
	return nil
}

func eventName(v string) error {
	name := strings.TrimSuffix(v, forkSuffix)
	if name == "" || name == wordAny || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return fmt.Errorf("want the name of an event as GitHub writes it, got %q", v)
	}
	return nil
}

// providerName is exactName where blanks may stand inside: providers are distinguished names.
func providerName(v string) error {
	if v == "" || v == wordAny || v == wordNone || strings.ContainsAny(v, "*\t\r\n") {
		return fmt.Errorf("want the exact name of a provider, got %q", v)
	}
	return nil
}

// hexDigits demands exactly size bytes in lower-case hexadecimal.
func hexDigits(size int) func(string) error {
	return func(v string) error {
		b, err := hex.DecodeString(v)
		if err != nil || len(b) != size || hex.EncodeToString(b) != v {
			return fmt.Errorf("want %d lower-case hexadecimal digits, got %q", 2*size, v)
		}
		return nil
	}
}

// hexOf is hexDigits where zeros name nothing.
func hexOf(size int) func(string) error {
	return func(v string) error {
		if err := hexDigits(size)(v); err != nil {
			return err
		}
		if strings.Trim(v, "0") == "" {
			return fmt.Errorf("all zeros name nothing")
		}
		return nil
	}
}

func numeric(v string) bool {
	return v != "" && len(v) <= 20 && v[0] != '0' && strings.Trim(v, "0123456789") == ""
}
