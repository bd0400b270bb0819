// SPDX-License-Identifier: Apache-2.0

package outputs

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/kettle/attest/attest/refusal"
)

// Largest lists: the one of actions/attest's subject-checksums, and the runner's own bound on $GITHUB_ARTIFACTS.
const (
	maxChecksums     = 512 << 10
	maxArtifactsList = 1 << 20
)

// claim is what a list of the job says about one file.
type claim struct {
	name   string // clean, relative to the workspace
	digest [32]byte
}

// parseChecksums reads what sha256sum(1) writes: 64 hex digits, a space, a space or "*", the name. Names that sha256sum
// escapes (a line that starts with a backslash), other digests and comments are refused; empty lines are skipped.
func parseChecksums(raw []byte) ([]claim, error) {
	var claims []claim
	for i, line := range strings.Split(string(raw), "\n") {
		if line == "" {
			continue
		}
		c, err := parseChecksumLine(line)
		if err != nil {
			return nil, fmt.Errorf("reading line %d of the checksums: %w", i+1, err)
		}
		claims = append(claims, c)
	}
	if len(claims) == 0 {
		return nil, refuse(refusal.Missing, "a checksums file with at least one line", "an empty one",
			"write it with sha256sum")
	}
	return claims, nil
}

func parseChecksumLine(line string) (claim, error) {
	const digits = 64
	if len(line) < digits+3 || line[digits] != ' ' || (line[digits+1] != ' ' && line[digits+1] != '*') {
		return claim{}, refuse(refusal.Malformed, "64 hex digits, two characters and a name", quote(line),
			"write the checksums with sha256sum")
	}
	d, err := parseHex(line[:digits])
	if err != nil {
		return claim{}, err
	}
	name := cleanName(line[digits+2:])
	return claim{name: name, digest: d}, checkName(name)
}

// cleanName takes the "./" away that find(1) and shells put in front, and nothing else of meaning: what path.Clean would
// have to climb for is refused by checkName.
func cleanName(name string) string {
	if name == "" {
		return ""
	}
	return path.Clean(name)
}

// parseDigest reads "sha256:" and 64 hex digits.
func parseDigest(s string) ([32]byte, error) {
	text, ok := strings.CutPrefix(s, "sha256:")
	if !ok {
		return [32]byte{}, refuse(refusal.Malformed, "a digest that starts with sha256:", quote(s), "state the SHA-256 of the file")
	}
	return parseHex(text)
}

func parseHex(s string) (d [32]byte, err error) {
	if len(s) != 2*len(d) {
		return d, refuse(refusal.Malformed, "64 hex digits of SHA-256", quote(s), "state the SHA-256 of the file")
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return d, refuse(refusal.Malformed, "64 hex digits of SHA-256", quote(s), "state the SHA-256 of the file").Because(err)
	}
	return d, nil
}

// artifactsList is the runner's $GITHUB_ARTIFACTS_LIST (actions/runner, CreateArtifactsFileCommand).
type artifactsList struct {
	Version  int `json:"version"`
	Subjects []struct {
		Name   string `json:"name"`
		Digest string `json:"digest"`
		Kind   string `json:"kind"`
	} `json:"subjects"`
}

// parseArtifactsList reads the list strictly. Only kind "file" can be hashed; anything else is refused.
func parseArtifactsList(raw []byte) ([]claim, error) {
	const want, next = "an artifacts list of version 1 as the runner writes it", "say what to attest with subject-path"
	if err := uniqueKeys(raw); err != nil {
		return nil, refuse(refusal.Malformed, want, "unreadable JSON", next).Because(err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var list artifactsList
	if err := dec.Decode(&list); err != nil {
		return nil, refuse(refusal.Malformed, want, "unreadable JSON", next).Because(err)
	}
	if list.Version != 1 {
		return nil, refuse(refusal.Malformed, want, fmt.Sprintf("version %d", list.Version), next)
	}
	if len(list.Subjects) == 0 {
		return nil, refuse(refusal.Missing, "an artifacts list with at least one subject", "an empty one", next)
	}
	claims := make([]claim, 0, len(list.Subjects))
	for _, s := range list.Subjects {
		if s.Kind != "file" {
			return nil, refuse(refusal.Malformed, `artifacts of kind "file"`, quote(s.Kind),
				"kettled attests only what it can hash: "+next)
		}
		d, err := parseDigest(s.Digest)
		if err != nil {
			return nil, err
		}
		name := cleanName(s.Name)
		if err := checkName(name); err != nil {
			return nil, err
		}
		claims = append(claims, claim{name: name, digest: d})
	}
	return claims, nil
}

// uniqueKeys refuses an object with a repeated key, nesting deeper than the format has, and data after the value.
func uniqueKeys(raw []byte) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	const deepest = 4
	var walk func(depth int) error
	walk = func(depth int) error {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		open, isDelim := tok.(json.Delim)
		if !isDelim {
			return nil
		}
		if depth == deepest {
			return errors.New("nested too deeply")
		}
		seen := map[string]bool{}
		for dec.More() {
			if open == '{' {
				key, err := dec.Token()
				if err != nil {
					return err
				}
				name := strings.ToLower(fmt.Sprint(key)) // encoding/json matches keys without regard to case
				if seen[name] {
					return fmt.Errorf("key %s twice", quote(name))
				}
				seen[name] = true
			}
			if err := walk(depth + 1); err != nil {
				return err
			}
		}
		_, err = dec.Token()
		return err
	}
	if err := walk(0); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the value")
	}
	return nil
}
