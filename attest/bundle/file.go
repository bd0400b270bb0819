// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/refusal"
)

// Limits of one bundle file.
const (
	MaxFile  = 64 << 20 // bytes
	MaxLines = 4096
)

// File is the content of one `<artifact>.intoto.jsonl`: bundles and evidence, linked by digest, in no order that means
// anything. Lines of other kinds are skipped, as the in-toto bundle format asks; they prove nothing.
type File struct {
	Bundles   []*Bundle
	Evidence  []Evidence
	Certified [][]byte // bundles with a certificate, for [Trust.Verify]: what a workflow signed, for example about an image
	Skipped   int      // lines of other kinds
}

// Evidence is one line of evidence and what it parses to.
type Evidence struct {
	Line       []byte // exact bytes without the newline; [evidence.Digest] names them
	Collection *evidence.Collection
}

// Endorsements gives the endorsements that the file's evidence carries, each once, in the file's order.
func (f *File) Endorsements() []evidence.Endorsements {
	var out []evidence.Endorsements
	for _, e := range f.Evidence {
		own := e.Collection.Endorsements
		if !own.Empty() && !slices.ContainsFunc(out, own.Equal) {
			out = append(out, own)
		}
	}
	return out
}

// ReadFile reads a bundle file. A line that claims to be a bundle or evidence and is not well formed is refused, and so
// is a file that ends in the middle of a line's JSON.
func ReadFile(r io.Reader) (*File, error) {
	in := bufio.NewReaderSize(io.LimitReader(r, MaxFile+1), 64<<10)
	f, read := new(File), 0
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("reading bundle file: %w", err)
		}
		if read += len(line); read > MaxFile || n > MaxLines {
			return nil, malformed(fmt.Sprintf("a bundle file of at most %d bytes and %d lines", MaxFile, MaxLines), "a larger file", nil)
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
			if addErr := f.add(line); addErr != nil {
				return nil, fmt.Errorf("line %d: %w", n, addErr)
			}
		}
		if err != nil {
			break
		}
	}
	if len(f.Bundles) == 0 && len(f.Certified) == 0 {
		return nil, &refusal.Refusal{
			Link: link, Code: refusal.Missing, Want: "at least one Sigstore bundle", Got: "none",
			Next: "name the .intoto.jsonl file that belongs to the artifact",
		}
	}
	return f, nil
}

func (f *File) add(line []byte) error {
	switch {
	case Is(line):
		b, err := Parse(line)
		if errors.Is(err, errForeign) {
			f.addCertified(line)
			return nil
		}
		if err != nil {
			return err
		}
		f.Bundles = append(f.Bundles, b)
	case evidence.Is(line):
		c, err := evidence.Parse(line)
		if err != nil {
			return err
		}
		f.Evidence = append(f.Evidence, Evidence{Line: bytes.Clone(line), Collection: c})
	case line[0] != '{' || !json.Valid(line):
		return malformed("whole JSON objects, one a line", "a truncated line, or something else", nil)
	default:
		f.Skipped++
	}
	return nil
}

// addCertified keeps a bundle that a workflow may have signed; any other certificate proves nothing here.
func (f *File) addCertified(line []byte) {
	if _, _, err := openCertified(line); err != nil {
		f.Skipped++
		return
	}
	f.Certified = append(f.Certified, bytes.Clone(line))
}
