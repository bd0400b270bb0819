// SPDX-License-Identifier: Apache-2.0

package diag

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Schema is the schema of manifest.json.
const Schema = "kettle.diag/v1"

const manifestName = "manifest.json"

// Report says what is in an archive and what is not. As JSON it is the archive's manifest.
type Report struct {
	Schema          string    `json:"schema"`
	At              time.Time `json:"at"`
	Marker          string    `json:"marker"` // what stands in place of a secret
	Masked          int       `json:"masked"` // how often
	SecretsTooShort int       `json:"secretsTooShort,omitempty"`
	Members         []Entry   `json:"members"`
	Skipped         []Skipped `json:"skipped"`
	MoreSkipped     int       `json:"moreSkipped,omitempty"`
}

// Complete reports whether everything that was there is in the archive, whole.
func (r *Report) Complete() bool {
	for _, e := range r.Members {
		if e.Left > 0 || e.Note != "" {
			return false
		}
	}
	return len(r.Skipped) == 0
}

// Entry is one member of the archive.
type Entry struct {
	Name   string `json:"name"`
	Source string `json:"source"` // journal, kettled, console, kernel or runner
	Size   int64  `json:"size"`   // of what it was made of
	Kept   int64  `json:"kept"`   // of the member
	Left   int64  `json:"left,omitempty"`
	Masked int    `json:"masked,omitempty"`
	Note   string `json:"note,omitempty"`
}

// Skipped is something that is not in the archive.
type Skipped struct {
	Name   string `json:"name"`
	Source string `json:"source"`
	Reason string `json:"reason"`
}

// Bounds on the manifest: names and reasons are bounded, and so are members and what is named as skipped.
const (
	maxSkipped  = 256
	maxName     = 100 // of ustar
	perEntry    = 512
	manifestTop = 4 << 10
	tarBlock    = 512
	tarEnd      = 2 * tarBlock
	fixed       = 4 // members that are not the runner's
)

func maxManifest(l Limits) int64 {
	return tarBlock + padded(manifestTop+int64(l.Files+fixed+maxSkipped)*perEntry)
}

func padded(n int64) int64 { return (n + tarBlock - 1) / tarBlock * tarBlock }

// pack writes the archive. What makes it too large is taken away from its end, which is the runner's folder.
func (c *collector) pack() ([]byte, error) {
	for {
		data, err := c.write()
		if err != nil || int64(len(data)) <= c.limits.Compressed {
			return data, err
		}
		switch {
		case len(c.members) > 0:
			c.shrink(c.limits.Compressed * 9 / 10 * c.content() / int64(len(data)))
		case len(c.report.Skipped) > 0:
			c.report.MoreSkipped += len(c.report.Skipped)
			c.report.Skipped = nil
		default:
			return nil, fmt.Errorf("an empty archive has %d bytes, which is more than %d", len(data), c.limits.Compressed)
		}
	}
}

func (c *collector) content() (n int64) {
	for _, m := range c.members {
		n += int64(len(m.data))
	}
	return n
}

// shrink leaves at most most bytes of content. The member that lies across the end loses its own end.
func (c *collector) shrink(most int64) {
	kept := c.members[:0]
	for _, m := range c.members {
		n := int64(len(m.data))
		if most <= 0 {
			c.skip(m.entry.Name, m.entry.Source, "the compressed archive would be too large")
			continue
		}
		if n > most {
			m.entry.Left += n - most
			m.entry.Kept, m.entry.Note = most, "its end was left out: the compressed archive would be too large"
			m.data = m.data[:most]
		}
		most -= n
		kept = append(kept, m)
	}
	c.members = kept
}

// write writes what is there now. It depends on nothing else, so that the same sources give the same bytes.
func (c *collector) write() ([]byte, error) {
	c.report.Members = make([]Entry, 0, len(c.members))
	for _, m := range c.members {
		c.report.Members = append(c.report.Members, m.entry)
	}
	if c.report.Skipped == nil {
		c.report.Skipped = []Skipped{}
	}
	manifest, err := json.MarshalIndent(c.report, "", " ")
	if err != nil {
		return nil, fmt.Errorf("writing the manifest: %w", err)
	}
	var out bytes.Buffer
	packed, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("writing the archive: %w", err)
	}
	archive := tar.NewWriter(packed)
	err = put(archive, manifestName, append(manifest, '\n'), c.report.At)
	for _, m := range c.members {
		err = errors.Join(err, put(archive, m.entry.Name, m.data, c.report.At))
	}
	if err = errors.Join(err, archive.Close(), packed.Close()); err != nil {
		return nil, fmt.Errorf("writing the archive: %w", err)
	}
	return out.Bytes(), nil
}

// maxTime is the end of what ustar's twelve octal digits say.
const maxTime = 1<<33 - 1

func put(to *tar.Writer, name string, data []byte, at time.Time) error {
	at = time.Unix(min(max(at.Unix(), 0), maxTime), 0)
	err := to.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o644, ModTime: at, Format: tar.FormatUSTAR})
	if err != nil {
		return err
	}
	_, err = io.Copy(to, bytes.NewReader(data))
	return err
}
