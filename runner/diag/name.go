// SPDX-License-Identifier: Apache-2.0

package diag

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// name is what a path of the runner's folder is called in the archive: the path itself where it is harmless, with %XX for
// every other byte. Two paths never share a name. A path that holds a secret has only a number.
func (w *walk) name(p string) string {
	if p == "" {
		return runnerSource + "/"
	}
	var b strings.Builder
	start := true
	for i := range len(p) {
		c := p[i]
		if isWord(c) || c == '-' || c == '/' || c == '.' && !start {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
		start = c == '/'
	}
	shown := b.String()
	if w.secret(p) || w.secret(shown) {
		w.hidden++
		return fmt.Sprintf("%s/%%masked-%d", runnerSource, w.hidden)
	}
	if most := maxName - len(runnerSource) - 1; len(shown) > most {
		sum := fmt.Sprintf("%%long-%x", sha256.Sum256([]byte(p)))
		shown = sum[:min(len(sum), most)]
	}
	return runnerSource + "/" + shown
}

func (w *walk) secret(text string) bool {
	_, n := w.masker.window([]byte(text), 0, len(text))
	return n > 0
}
