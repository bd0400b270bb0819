// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // git's object identifiers are SHA-1
	"encoding/hex"
	"fmt"
	"sort"
	"strings"
)

// signature is author and committer of every commit: fixed, so that content alone decides the identifier.
const signature = "fakegithub <noreply@github.demo.test> 1767225600 +0000"

// Date is the author and committer date of every commit, RFC 3339.
const Date = "2026-01-01T00:00:00Z"

// object returns the identifier of a git object: SHA-1 over "kind length NUL content".
func object(kind string, content []byte) string {
	h := sha1.New() //nolint:gosec // git's object identifiers are SHA-1
	fmt.Fprintf(h, "%s %d\x00", kind, len(content))
	h.Write(content)
	return hex.EncodeToString(h.Sum(nil))
}

type treeEntry struct {
	name, mode, sha string
	order           string // git sorts a folder as if its name ended in a slash
}

// treeID returns the identifier of the tree object of one folder. files are those below dir, sorted by path; dir is "" or
// ends in a slash.
func treeID(files []File, dir string) string {
	var entries []treeEntry
	for i := 0; i < len(files); {
		rest := strings.TrimPrefix(files[i].Path, dir)
		name, _, nested := strings.Cut(rest, "/")
		if !nested {
			entries = append(entries, treeEntry{name, files[i].Mode, files[i].SHA, name})
			i++
			continue
		}
		sub := dir + name + "/"
		end := i
		for end < len(files) && strings.HasPrefix(files[end].Path, sub) {
			end++
		}
		entries = append(entries, treeEntry{name, modeTree, treeID(files[i:end], sub), name + "/"})
		i = end
	}
	sort.Slice(entries, func(i, k int) bool { return entries[i].order < entries[k].order })
	var b bytes.Buffer
	for _, e := range entries {
		raw, _ := hex.DecodeString(e.sha) // made by object: always valid
		fmt.Fprintf(&b, "%s %s\x00%s", e.mode, e.name, raw)
	}
	return object("tree", b.Bytes())
}

func commitID(treeSHA, message string) string {
	return object("commit", fmt.Appendf(nil, "tree %s\nauthor %s\ncommitter %s\n\n%s\n", treeSHA, signature, signature, message))
}
