// SPDX-License-Identifier: Apache-2.0

// Package outputs hashes a job's files from kettled's side of the sandbox, while the sandbox is frozen.
//
// It guarantees that every [Subject] it returns is the SHA-256 that kettled itself computed over one regular file which
// lies under the sandbox's root on the sandbox's own file system: each path is resolved component by component by the
// kernel (openat2(2) with RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS and RESOLVE_NO_XDEV), the type is
// checked before the file is opened for reading, and the file is the same before and after it was read. A digest that
// the job states is only ever compared, never passed on.
//
// It trusts the kernel and the root path it is given. It does not trust file names, patterns, lists, links or times in
// the sandbox, and it does not say that the job wanted these bytes: only that they were there. It does not freeze
// anything; a caller that leaves the job running gets refusals where files change under its hands.
//
// Subjects follow actions/attest, narrower in three places: a symbolic link is refused where it matches (exclude it, or
// name its target), a directory is refused where it is named literally and skipped where a glob matches it (write
// dir/** for what is in it), and claims in a checksums file or an artifacts list need the file itself.
package outputs

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sort"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

// link is the link of the chain that this package's refusals name.
const link = "outputs"

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

// Limits bounds one [Collect]. A zero field is refused: there is no "unlimited".
type Limits struct {
	Subjects int           // files that may be attested at once
	Bytes    int64         // bytes read from all of them together
	Entries  int           // directory entries that globs may look at
	Time     time.Duration // wall time of the whole call
}

// Validate names every field that is not positive.
func (l Limits) Validate() error {
	var errs []error
	for _, f := range []struct {
		name string
		ok   bool
	}{{"subjects", l.Subjects > 0}, {"bytes", l.Bytes > 0}, {"entries", l.Entries > 0}, {"time", l.Time > 0}} {
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

// Collect resolves the request below root, kettled's view of the sandbox's root directory, and hashes what it names. The
// subjects come sorted by name. Everything that is wrong with the request or with a file is a [refusal.Refusal]; other
// errors mean that kettled could not look (I/O) or that ctx ended. Nothing is returned unless everything was hashed.
func Collect(ctx context.Context, root string, req Request, limits Limits) ([]Subject, error) {
	if err := errors.Join(limits.Validate(), req.check()); err != nil {
		return nil, err
	}
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	defer t.close()
	c := &collector{tree: t, req: req, limits: limits, deadline: time.Now().Add(limits.Time), buf: make([]byte, bufferSize)}
	subjects, err := c.collect(ctx)
	if err != nil {
		return nil, err
	}
	return unique(subjects)
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

// collector holds what one Collect needs.
type collector struct {
	tree     *tree
	req      Request
	limits   Limits
	deadline time.Time
	entries  int   // directory entries looked at
	bytes    int64 // bytes promised to be hashed
	buf      []byte
}

// inTime says whether the work may go on: an error when ctx ended, a refusal when the time budget did.
func (c *collector) inTime(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("collecting outputs: %w", err)
	}
	if time.Now().After(c.deadline) {
		return refuse(refusal.Policy, "all outputs hashed within "+c.limits.Time.String(), "more time needed",
			"attest fewer or smaller files, or ask the operator for a larger time budget")
	}
	return nil
}

func (c *collector) collect(ctx context.Context) ([]Subject, error) {
	switch {
	case len(c.req.Patterns) > 0:
		return c.fromPatterns(ctx)
	case c.req.Checksums != "":
		raw, err := c.readList(c.req.Checksums, maxChecksums)
		if err != nil {
			return nil, err
		}
		claims, err := parseChecksums(raw)
		if err != nil {
			return nil, err
		}
		return c.fromClaims(ctx, claims)
	case c.req.Digest != "":
		digest, err := parseDigest(c.req.Digest)
		if err != nil {
			return nil, err
		}
		return c.fromClaims(ctx, []claim{{name: c.req.Name, digest: digest}})
	default:
		raw, err := c.readList(c.req.ArtifactsList, maxArtifactsList)
		if err != nil {
			return nil, err
		}
		claims, err := parseArtifactsList(raw)
		if err != nil {
			return nil, err
		}
		return c.fromClaims(ctx, claims)
	}
}

// fromPatterns hashes every file that the patterns select.
func (c *collector) fromPatterns(ctx context.Context) ([]Subject, error) {
	paths, err := c.expand(ctx)
	if err != nil {
		return nil, err
	}
	if c.req.Name != "" && len(paths) != 1 {
		return nil, refuse(refusal.Malformed, "exactly one file beside subject-name", fmt.Sprintf("%d files", len(paths)),
			"leave subject-name out, or let subject-path name one file")
	}
	subjects := make([]Subject, 0, len(paths))
	for _, p := range paths {
		name := path.Base(p)
		if c.req.Name != "" {
			name = c.req.Name
		}
		s, err := c.hashFile(ctx, p, name)
		if err != nil {
			return nil, err
		}
		subjects = append(subjects, s)
	}
	return subjects, nil
}

// fromClaims hashes the file behind every claim and demands the digest that was claimed.
func (c *collector) fromClaims(ctx context.Context, claims []claim) ([]Subject, error) {
	if len(claims) > c.limits.Subjects {
		return nil, c.tooMany(len(claims))
	}
	subjects := make([]Subject, 0, len(claims))
	for _, claim := range claims {
		s, err := c.hashFile(ctx, path.Join(c.req.Workspace, claim.name), claim.name)
		if errors.Is(err, refusal.ErrMissing) {
			return nil, refuse(refusal.Missing, quote(claim.name)+" as a file below the workspace", "no such file",
				"kettled attests only what it can hash: keep the file in the workspace until the step has run").Because(err)
		}
		if err != nil {
			return nil, err
		}
		if s.SHA256 != claim.digest {
			return nil, refuse(refusal.Binding, fmt.Sprintf("sha256:%x for %s", claim.digest, quote(claim.name)),
				fmt.Sprintf("sha256:%x in the file", s.SHA256), "state the digest of the file as it is now")
		}
		subjects = append(subjects, s)
	}
	return subjects, nil
}

func (c *collector) tooMany(got int) error {
	return refuse(refusal.Policy, fmt.Sprintf("at most %d subjects", c.limits.Subjects), fmt.Sprintf("%d or more", got),
		"pack the outputs into fewer files")
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
