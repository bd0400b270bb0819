// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"

	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/image"
)

// hostile runs a job that attacks its runner and then has a file attested. The job fails when an attack succeeds; the
// file has to verify all the same, and the record has to tell what the job left behind.
func (d *demo) hostile(ctx context.Context, w *world, s *scene, m *image.Manifest) error {
	attacker := &machine{workflow: "hostile.yml", initrd: filepath.Join(s.Image, m.Files.Initrd.Name), line: m.CommandLine}
	if err := d.job(ctx, w, s, attacker); err != nil {
		return err
	}
	shown := d.session(s)
	shown.out = io.Discard
	if err := shown.run(ctx, 0, "kettle verify loot.txt"+trust); err != nil {
		return err
	}
	final, err := w.records.last()
	if err != nil {
		return err
	}
	return told(final)
}

// told demands that FINAL says what a hostile job cannot keep to itself.
func told(c *statement.FinalConditions) error {
	var errs []error
	demand := func(ok bool, what string) {
		if !ok {
			errs = append(errs, fmt.Errorf("the final statement of the hostile job does not say %s: %+v", what, *c))
		}
	}
	demand(c.Outcome == "finished", "that it finished")
	demand(c.Killed != nil && slices.ContainsFunc(c.Killed.Names, func(n string) bool { return n == `"sleep"` || n == "sleep" }),
		"that a process was left behind")
	demand(c.Disk != nil && c.Disk.Changed > 0 && c.Disk.Complete, "that it changed a file of the image")
	refused := func(host string) bool {
		return slices.ContainsFunc(c.Egress, func(f statement.Flow) bool { return f.Refused != "" && f.Host == host })
	}
	for _, host := range []string{"169.254.169.254", "10.0.2.100", "example.com", "github.demo.test"} {
		demand(refused(host), "that it was kept from "+host)
	}
	return errors.Join(errs...)
}

// last gives what the FINAL statement of the latest record says.
func (r *records) last() (*statement.FinalConditions, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var latest *statement.FinalConditions
	for name, data := range r.files {
		if path.Base(name) != "final.intoto.jsonl" {
			continue
		}
		f, err := bundle.ReadFile(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		for _, b := range f.Bundles {
			s, err := statement.ParseFinal(b.Payload())
			if err != nil {
				return nil, err
			}
			if latest == nil || s.Conditions.FinishedOn.After(latest.FinishedOn) {
				latest = &s.Conditions
			}
		}
	}
	if latest == nil {
		return nil, errors.New("no environment has delivered a final statement")
	}
	return latest, nil
}
