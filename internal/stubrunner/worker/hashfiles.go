// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// hashFiles is the SHA-256 over the SHA-256 of each file of the workspace that the patterns select, in the order of their
// paths; nothing selected is the empty text. A pattern with "!" before it takes files out again.
func (j *Job) hashFiles(patterns []string) (string, error) {
	root := j.workspace()
	var globs []glob
	for _, text := range patterns {
		for line := range strings.SplitSeq(text, "\n") {
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' || strings.HasPrefix(line, "--") {
				continue
			}
			pattern, exclude := strings.CutPrefix(line, "!")
			if !filepath.IsAbs(pattern) {
				pattern = filepath.Join(root, pattern)
			}
			if !doublestar.ValidatePathPattern(pattern) {
				return "", fmt.Errorf("hashFiles('%s') failed: the pattern is not valid", line)
			}
			globs = append(globs, glob{pattern, exclude})
		}
	}
	total, found := sha256.New(), false
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.Type().IsRegular() || !selected(globs, path) {
			return nil
		}
		sum, err := hashFile(path)
		if err != nil {
			return err
		}
		found = true
		_, err = total.Write(sum)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("hashFiles failed under '%s': %w", root, err)
	}
	if !found {
		return "", nil
	}
	return hex.EncodeToString(total.Sum(nil)), nil
}

type glob struct {
	pattern string
	exclude bool
}

// selected applies the patterns in order. A pattern that names a folder selects all below it.
func selected(globs []glob, path string) bool {
	in := false
	for _, g := range globs {
		whole, errWhole := doublestar.PathMatch(g.pattern, path)
		below, errBelow := doublestar.PathMatch(g.pattern+"/**", path)
		if errWhole == nil && errBelow == nil && (whole || below) {
			in = !g.exclude
		}
	}
	return in
}

func hashFile(path string) ([]byte, error) {
	file, err := os.Open(path) //nolint:gosec // The workflow names its files.
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return nil, err
	}
	return sum.Sum(nil), nil
}
