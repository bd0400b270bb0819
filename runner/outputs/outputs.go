// SPDX-License-Identifier: Apache-2.0

// Package outputs holds a job's files still and hashes them, from kettled's side of the sandbox.
//
// [Hold] is called while the sandbox is frozen or dead. It finds the files that a job names, checks each and clones it
// into a file of kettled's own where the file system can share blocks; [Held.Hash] then reads the clones while the job
// goes on. Where it cannot, the sandbox has to stand still until Hash has returned.
//
// It guarantees that every [Subject] is the SHA-256 that kettled itself computed over one regular file that stood whole at
// its path in one of the sandbox's [Volume]s: paths are mapped through the table of volumes and resolved there by the
// kernel (package beneath: no links, no way out, no mount point), so that nothing a job mounts is ever looked through; the
// volumes lie on file systems that the caller lists, so that no FUSE or network server can hang the reader; the type is
// known before a file is opened, and its owner is an id of the sandbox. A file that only the image holds is nobody's
// output. A digest that the job states is only ever compared, never passed on.
//
// Hard links are allowed and counted ([Subject].Links): a second name reaches the same bytes, and neither a clone nor a
// frozen sandbox changes by it. link(2) cannot cross mounts, so that a name in a volume leads to a file that was made
// through that volume; the owner's id says the same a second time.
//
// It trusts the kernel and its [Config]. It does not trust file names, patterns, lists, links or times in the sandbox, and
// does not say that the job wanted these bytes: only that they were there. It does not freeze anything. If the caller
// leaves the job running, a clone is still one state of the file as a whole; without clones, what was written meanwhile by
// write(2) is noticed and refused, and stores through a shared mapping are not.
//
// Subjects follow actions/attest, narrower in three places: a symbolic link is refused where it matches (exclude it, or
// name its target), a directory is refused where it is named literally and skipped where a glob matches it (write
// dir/** for what is in it), and claims in a checksums file or an artifacts list need the file itself.
package outputs

import (
	"errors"
	"fmt"
	"path"
	"sort"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

// link is the link of the chain that this package's refusals name.
const link = "outputs"

// ErrOverBudget is matched by a refusal of outputs that the sandbox would have to stand still for too long for. The same
// request may be held again when the sandbox is dead.
var ErrOverBudget = errors.New("the outputs need more time or bytes than a frozen sandbox has")

// Request says what a job wants attested. Exactly one of Patterns, Checksums and Digest is set; ArtifactsList is the
// fall-back for a request that sets none of them, and is ignored otherwise. All paths are the sandbox's own.
type Request struct {
	Workspace     string   // absolute path that relative names start from
	Patterns      []string // globs (doublestar syntax) or paths; a leading "!" excludes; the last pattern that matches decides
	Name          string   // the subject's name: optional with Patterns (then exactly one file), required with Digest
	Checksums     string   // path of a file as sha256sum(1) writes it, at most 512 KiB; names are relative to Workspace
	Digest        string   // "sha256:" and 64 hex digits; Name then names the file below Workspace
	ArtifactsList string   // path of the runner's $GITHUB_ARTIFACTS_LIST, at most 1 MiB
}

// Limits bounds one request. A zero field is refused: there is no "unlimited".
type Limits struct {
	Subjects    int           // files that may be attested at once
	Entries     int           // directory entries that globs may look at
	Bytes       int64         // of all files together: their sizes, holes included
	Time        time.Duration // of hashing a snapshot
	FrozenBytes int64         // that may be hashed without a snapshot
	FrozenTime  time.Duration // of holding, and of hashing too when there is no snapshot
}

// Validate names every field that is not positive.
func (l Limits) Validate() error {
	var errs []error
	for _, f := range []struct {
		name string
		ok   bool
	}{
		{"subjects", l.Subjects > 0}, {"entries", l.Entries > 0}, {"bytes", l.Bytes > 0}, {"time", l.Time > 0},
		{"frozen bytes", l.FrozenBytes > 0}, {"frozen time", l.FrozenTime > 0},
	} {
		if !f.ok {
			errs = append(errs, fmt.Errorf("checking output limits: %s must be positive", f.name))
		}
	}
	return errors.Join(errs...)
}

// Subject is one file as kettled hashed it.
type Subject struct {
	Name   string   // the base name, or the name that was asked for
	Path   string   // absolute path inside the sandbox
	SHA256 [32]byte // over exactly Size bytes
	Size   int64
	Links  uint64 // hard links of the file; more than one means that the job can reach the same bytes under other names
}

// check refuses a request that has no source of subjects or more than one.
func (r Request) check() error {
	if !path.IsAbs(r.Workspace) || path.Clean(r.Workspace) != r.Workspace || !printable(r.Workspace) {
		return refuse(refusal.Malformed, "an absolute, clean workspace path", quote(r.Workspace),
			"run the step with GITHUB_WORKSPACE as the runner sets it")
	}
	sources := 0
	for _, set := range []bool{len(r.Patterns) > 0, r.Checksums != "", r.Digest != ""} {
		if set {
			sources++
		}
	}
	switch {
	case sources > 1:
		return refuse(refusal.Malformed, "one of subject-path, subject-checksums and subject-digest", "more than one",
			"use one step for each source of subjects")
	case sources == 0 && r.ArtifactsList == "":
		return refuse(refusal.Missing, "a subject", "no subject-path, subject-checksums, subject-digest or artifacts list",
			"say what to attest with subject-path")
	case r.Digest != "" && r.Name == "":
		return refuse(refusal.Missing, "subject-name beside subject-digest", "no name",
			"name the file in the workspace that has this digest")
	case r.Name != "" && len(r.Patterns) == 0 && r.Digest == "":
		return refuse(refusal.Malformed, "subject-name only with subject-path or subject-digest", quote(r.Name),
			"leave subject-name out: a list carries its own names")
	}
	return nil
}

// unique sorts by name and drops repetitions; one name with two digests is refused.
func unique(subjects []Subject) ([]Subject, error) {
	sort.SliceStable(subjects, func(i, j int) bool {
		if subjects[i].Name != subjects[j].Name {
			return subjects[i].Name < subjects[j].Name
		}
		return subjects[i].Path < subjects[j].Path
	})
	out := subjects[:0]
	for _, s := range subjects {
		if len(out) == 0 || out[len(out)-1].Name != s.Name {
			out = append(out, s)
			continue
		}
		if last := out[len(out)-1]; last.SHA256 != s.SHA256 {
			return nil, refuse(refusal.Malformed, "one digest for the name "+quote(s.Name),
				fmt.Sprintf("different bytes in %s and %s", quote(last.Path), quote(s.Path)),
				"give the files different names, or attest them in separate steps")
		}
	}
	return out, nil
}

func refuse(code refusal.Code, want, got, next string) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: code, Want: want, Got: got, Next: next}
}
