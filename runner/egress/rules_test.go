// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"strings"
	"testing"
)

func TestRules(t *testing.T) {
	t.Parallel()
	list := After{Mode: Allow, Allow: []Entry{
		{Host: "exact.test.org", Ports: []uint16{443, 8443}, Protocol: TLS},
		{Host: "exact.test.org", Ports: []uint16{22}, Protocol: TCP},
		{Host: "*.wild.org", Ports: []uint16{80}, Protocol: HTTP},
		{Host: "*.test", Ports: []uint16{1}, Protocol: TCP},
	}}
	for name, tc := range map[string]struct {
		after      After
		dispatched bool
		host       string
		port       uint16
		want       Protocol // empty: refused
	}{
		"pinned before":               {list, false, "pinned.test", 443, TLS},
		"pinned after":                {list, true, "pinned.test", 443, TLS},
		"pinned in audit":             {After{Mode: Audit}, true, "pinned.test", 443, TLS},
		"pinned, another port":        {list, true, "pinned.test", 80, ""},
		"pinned, audit, another port": {After{Mode: Audit}, true, "pinned.test", 22, ""},
		"pinned, a wild port":         {list, true, "pinned.test", 1, ""},
		"none":                        {After{Mode: None}, true, "exact.test.org", 443, ""},
		"allowed before":              {list, false, "exact.test.org", 443, ""},
		"allowed":                     {list, true, "exact.test.org", 443, TLS},
		"second port":                 {list, true, "exact.test.org", 8443, TLS},
		"second entry":                {list, true, "exact.test.org", 22, TCP},
		"no such port":                {list, true, "exact.test.org", 80, ""},
		"below an exact host":         {list, true, "a.exact.test.org", 443, ""},
		"below a wild one":            {list, true, "a.wild.org", 80, HTTP},
		"far below a wild one":        {list, true, "b.a.wild.org", 80, HTTP},
		"the suffix itself":           {list, true, "wild.org", 80, ""},
		"the suffix without its dot":  {list, true, "evilwild.org", 80, ""},
		"the suffix within":           {list, true, "a.wild.org.evil.org", 80, ""},
		"audit before":                {After{Mode: Audit}, false, "any.org", 443, ""},
		"audit":                       {After{Mode: Audit}, true, "any.org", 1234, sniffed},
		"audit of port 53":            {After{Mode: Audit}, true, "any.org", 53, ""},
		"no mode":                     {After{}, true, "exact.test.org", 443, ""},
		"unknown mode":                {After{Mode: "all", Allow: list.Allow}, true, "exact.test.org", 443, ""},
	} {
		r := Rules{Pinned: []string{"pinned.test"}, After: tc.after}
		got, ok := r.protocol(tc.host, tc.port, tc.dispatched)
		if !ok {
			got = ""
		}
		if got != tc.want {
			t.Errorf("%s: got %q", name, got)
		}
		if got != "" && !r.open(tc.host, tc.dispatched) {
			t.Errorf("%s: the name is not open", name)
		}
	}
}

func TestRulesValidate(t *testing.T) {
	t.Parallel()
	entry := func(change func(*Entry)) After {
		e := Entry{Host: "a.test", Ports: []uint16{443}, Protocol: TLS}
		change(&e)
		return After{Mode: Allow, Allow: []Entry{e}}
	}
	host := func(h string) After { return entry(func(e *Entry) { e.Host = h }) }
	for name, tc := range map[string]struct {
		pinned []string
		after  After
		want   string // empty: valid
	}{
		"none":             {[]string{"github.test"}, After{Mode: None}, ""},
		"audit":            {[]string{"github.test"}, After{Mode: Audit}, ""},
		"allow":            {[]string{"github.test"}, entry(func(*Entry) {}), ""},
		"wild tcp":         {[]string{"github.test"}, entry(func(e *Entry) { e.Host, e.Protocol = "*.a.test", TCP }), ""},
		"nothing pinned":   {nil, After{Mode: None}, "pinned"},
		"pinned wild":      {[]string{"*.github.test"}, After{Mode: None}, "pinned"},
		"pinned upper":     {[]string{"GitHub.test"}, After{Mode: None}, "pinned"},
		"pinned address":   {[]string{"192.0.2.1"}, After{Mode: None}, "pinned"},
		"no mode":          {[]string{"github.test"}, After{}, "mode"},
		"unknown mode":     {[]string{"github.test"}, After{Mode: "all"}, "mode"},
		"list with none":   {[]string{"github.test"}, After{Mode: None, Allow: []Entry{{Host: "a.test", Ports: []uint16{1}, Protocol: TCP}}}, "no list"},
		"list with audit":  {[]string{"github.test"}, After{Mode: Audit, Allow: []Entry{{Host: "a.test", Ports: []uint16{1}, Protocol: TCP}}}, "no list"},
		"empty list":       {[]string{"github.test"}, After{Mode: Allow}, "at least one entry"},
		"empty entry":      {[]string{"github.test"}, After{Mode: Allow, Allow: []Entry{{}}}, "want at least one"},
		"any host":         {[]string{"github.test"}, host("*"), "DNS name"},
		"any of a top":     {[]string{"github.test"}, host("*.test"), "DNS name"},
		"star inside":      {[]string{"github.test"}, host("a.*.test"), "DNS name"},
		"star in a label":  {[]string{"github.test"}, host("a*.b.test"), "DNS name"},
		"two stars":        {[]string{"github.test"}, host("*.*.a.test"), "DNS name"},
		"star without dot": {[]string{"github.test"}, host("*a.test"), "DNS name"},
		"final dot":        {[]string{"github.test"}, host("a.test."), "DNS name"},
		"address":          {[]string{"github.test"}, host("10.0.0.1"), "DNS name"},
		"short address":    {[]string{"github.test"}, host("10.1"), "DNS name"},
		"hex address":      {[]string{"github.test"}, host("0x7f.0x1"), "DNS name"},
		"address of six":   {[]string{"github.test"}, host("2001:db8::1"), "DNS name"},
		"with a port":      {[]string{"github.test"}, host("a.test:443"), "DNS name"},
		"pinned again":     {[]string{"github.test"}, host("github.test"), "pinned"},
		"no ports":         {[]string{"github.test"}, entry(func(e *Entry) { e.Ports = nil }), "ports"},
		"port 0":           {[]string{"github.test"}, entry(func(e *Entry) { e.Ports = []uint16{0} }), "port 0"},
		"port 53":          {[]string{"github.test"}, entry(func(e *Entry) { e.Ports = []uint16{53} }), "port 53"},
		"port twice":       {[]string{"github.test"}, entry(func(e *Entry) { e.Ports = []uint16{1, 1} }), "twice"},
		"no protocol":      {[]string{"github.test"}, entry(func(e *Entry) { e.Protocol = "" }), "protocol"},
		"protocol opaque":  {[]string{"github.test"}, entry(func(e *Entry) { e.Protocol = Opaque }), "protocol"},
		"protocol sniffed": {[]string{"github.test"}, entry(func(e *Entry) { e.Protocol = sniffed }), "protocol"},
	} {
		err := Rules{Pinned: tc.pinned, After: tc.after}.Validate()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	all := Rules{After: After{Mode: Allow, Allow: []Entry{{Host: "*"}, {Ports: []uint16{0}}}}}.Validate()
	if n := strings.Count(all.Error(), "\n") + 1; n != 7 {
		t.Errorf("%d faults:\n%v", n, all)
	}
}
