// SPDX-License-Identifier: Apache-2.0

package job

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/kettle/attest/attest/statement"
)

// inputs writes a step's inputs as the runner's log does.
func inputsOf(pairs ...string) string {
	var entries []string
	for i := 0; i+1 < len(pairs); i += 2 {
		entries = append(entries, fmt.Sprintf(`{"Key":{"type":0,"lit":%q},"Value":%s}`, pairs[i], pairs[i+1]))
	}
	return `{"type":2,"map":[` + strings.Join(entries, ",") + `]}`
}

func TestCaches(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		action, path, inputs string
		want                 *Cache
	}{
		"cache": {"actions/cache", "", inputsOf("path", `"~/.cache"`, "key", `{"type":3,"expr":"format('go-{0}', hashFiles('go.sum'))"}`, "restore-keys", `"go-\n"`),
			&Cache{Key: "${{ format('go-{0}', hashFiles('go.sum')) }}", Restore: "go-\n"}},
		"restore":                {"Actions/Cache", "restore", inputsOf("KEY", `"k"`), &Cache{Key: "k"}},
		"save":                   {"actions/cache", "save", inputsOf("key", `"k"`), nil},
		"another's":              {"Swatinem/rust-cache", "", `null`, &Cache{Key: "Swatinem/rust-cache@v1"}},
		"setup-node":             {"actions/setup-node", "", inputsOf("cache", `"npm"`), &Cache{Key: "actions/setup-node@v1 cache: npm"}},
		"setup-node, not":        {"actions/setup-node", "", inputsOf("package-manager-cache", `false`), nil},
		"setup-python":           {"actions/setup-python", "", inputsOf("cache", `{"type":3,"expr":"matrix.cache"}`), &Cache{Key: "actions/setup-python@v1 cache: ${{ matrix.cache }}"}},
		"setup-python, not":      {"actions/setup-python", "", inputsOf("cache-dependency-path", `"x"`), nil},
		"setup-ruby":             {"ruby/setup-ruby", "", inputsOf("bundler-cache", `{"type":5,"bool":true}`), &Cache{Key: "ruby/setup-ruby@v1 bundler-cache: true"}},
		"setup-go, unasked":      {"actions/setup-go", "", `null`, &Cache{Key: "actions/setup-go@v1"}},
		"setup-go, not":          {"actions/setup-go", "", inputsOf("cache", `"False"`), nil},
		"setup-gradle":           {"gradle/actions", "setup-gradle", ``, &Cache{Key: "gradle/actions/setup-gradle@v1"}},
		"checkout":               {"actions/checkout", "", inputsOf("cache", `"x"`), nil},
		"long key":               {"actions/cache", "", inputsOf("key", `"`+strings.Repeat("ä", 400)+`"`), &Cache{Key: strings.Repeat("ä", 100) + "…"}},
		"setup of the workspace": {"", "./setup-go", inputsOf("cache", `true`), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ActionRef{Repository: tc.action, Ref: "v1", Path: tc.path, Local: tc.action == ""}.restores([]byte(tc.inputs))
			if d := cmp.Diff(tc.want, got); d != "" || got != nil && !utf8.ValidString(got.Key) {
				t.Error(d)
			}
		})
	}
}

// TestAttackPoisonedCache restores caches, which another job can have filled. Provenance names each, and says that nobody
// but the job vouches for it.
func TestAttackPoisonedCache(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	step := func(action, inputs string) string {
		return `{"type":"action","reference":{"type":"repository","name":"` + action + `","ref":"v4"},"inputs":` + inputs + `},`
	}
	cache := step("actions/cache", inputsOf("key", `"deps"`, "restore-keys", `"de"`))
	w.edit("\"steps\": [\n", "\"steps\": ["+cache+cache+step("actions/setup-go", "null"))
	w.shas["actions/cache@v4"], w.shas["actions/setup-go@v4"] = actionSHA, actionSHA
	got, err := w.identifier(t).Identify(t.Context(), w.question)
	if err != nil {
		t.Fatal(err)
	}
	var caches []statement.ResourceDescriptor
	for _, d := range got.Dependencies {
		if d.Annotations["kettle_kind"] == "cache" {
			caches = append(caches, d)
		}
	}
	const uri = "https://github.demo.test/acme/widget/actions/caches"
	want := []statement.ResourceDescriptor{
		{Name: "deps", URI: uri, Annotations: map[string]string{"kettle_kind": "cache", "kettle_origin": "job", "kettle_restore_keys": "de"}},
		{Name: "actions/setup-go@v4", URI: uri, Annotations: map[string]string{"kettle_kind": "cache", "kettle_origin": "job"}},
	}
	if d := cmp.Diff(want, caches); d != "" {
		t.Error(d)
	}
}
