// SPDX-License-Identifier: Apache-2.0

package job

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
)

// maxKey bounds the text of one cache's key in provenance, in bytes.
const maxKey = 200

// Cache is a cache that a step restores: files that an earlier job made, of this workflow or of another that may write
// the repository's caches. Nobody vouches for them.
type Cache struct {
	Key     string // as the workflow writes it; what the action caches by, when it makes the key itself
	Restore string // the keys to fall back to, as the workflow writes them
}

// restores finds the cache that a step restores, by what its action is called and given: actions/cache and its like, and
// setup actions that were told to cache, or do when they are told nothing. Other actions may restore caches unseen: the
// job's own credential is enough for it.
func (a ActionRef) restores(inputs json.RawMessage) *Cache {
	if a.Local {
		return nil
	}
	repository, name := strings.ToLower(a.Repository), strings.ToLower(path.Base(path.Join(a.Repository, a.Path)))
	if strings.Contains(repository, "cache") {
		if name == "save" {
			return nil
		}
		key := cmpText(literal(lookup(inputs, "key")), a.Uses())
		return &Cache{Key: clip(key), Restore: clip(literal(lookup(inputs, "restore-keys")))}
	}
	if !strings.HasPrefix(name, "setup-") {
		return nil
	}
	for _, input := range cacheInputs() {
		switch value := strings.TrimSpace(literal(lookup(inputs, input))); {
		case strings.EqualFold(value, "false"):
			return nil
		case value != "":
			return &Cache{Key: clip(a.Uses() + " " + input + ": " + value)}
		}
	}
	if slices.Contains(cachesUnasked(), strings.ToLower(strings.TrimSuffix(a.Repository+"/"+a.Path, "/"))) {
		return &Cache{Key: clip(a.Uses())}
	}
	return nil
}

// cacheInputs are the inputs with which setup actions are told to cache, or not to.
func cacheInputs() []string {
	return []string{"cache", "bundler-cache", "enable-cache", "package-manager-cache"}
}

// cachesUnasked are the setup actions that cache unless they are told not to.
func cachesUnasked() []string {
	return []string{"actions/setup-go", "actions/setup-node", "astral-sh/setup-uv", "gradle/actions/setup-gradle"}
}

func cmpText(text, otherwise string) string {
	if strings.TrimSpace(text) == "" {
		return otherwise
	}
	return text
}

// clip bounds a text of the workflow in bytes, and keeps it UTF-8.
func clip(s string) string {
	if len(s) <= maxKey {
		return s
	}
	return strings.ToValidUTF8(s[:maxKey], "") + "…"
}
