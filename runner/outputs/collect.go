// SPDX-License-Identifier: Apache-2.0

package outputs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

// wanted is one file that a request names.
type wanted struct {
	path  string
	name  string
	claim *[32]byte // the digest that the job states, if it does
}

// collector turns a request into files.
type collector struct {
	volumes *volumes
	req     Request
	limits  Limits
	clock   clock
	entries int // directory entries looked at
}

// clock ends what takes too long.
type clock struct {
	end  time.Time
	late *refusal.Refusal
}

// frozenClock runs while the sandbox stands still.
func frozenClock(l Limits) clock {
	return clock{time.Now().Add(l.FrozenTime), refuse(refusal.Policy, "all outputs held within "+l.FrozenTime.String(),
		"more time needed", "attest fewer or smaller files, or ask the operator for a larger time budget").Because(ErrOverBudget)}
}

// clock runs while a snapshot is hashed.
func (l Limits) clock() clock {
	return clock{time.Now().Add(l.Time), refuse(refusal.Policy, "all outputs hashed within "+l.Time.String(),
		"more time needed", "attest fewer or smaller files, or ask the operator for a larger time budget")}
}

// check says whether the work may go on: an error when ctx ended, a refusal when the time budget did.
func (c clock) check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("collecting outputs: %w", err)
	}
	if time.Now().After(c.end) {
		return c.late
	}
	return nil
}

// collect lists the files of the request.
func (c *collector) collect(ctx context.Context) ([]wanted, error) {
	switch {
	case len(c.req.Patterns) > 0:
		return c.fromPatterns(ctx)
	case c.req.Checksums != "":
		raw, err := c.readList(c.req.Checksums, maxChecksums)
		if err != nil {
			return nil, err
		}
		return c.fromClaims(parseChecksums(raw))
	case c.req.Digest != "":
		digest, err := parseDigest(c.req.Digest)
		return c.fromClaims([]claim{{name: c.req.Name, digest: digest}}, err)
	default:
		raw, err := c.readList(c.req.ArtifactsList, maxArtifactsList)
		if err != nil {
			return nil, err
		}
		return c.fromClaims(parseArtifactsList(raw))
	}
}

// fromPatterns lists every file that the patterns select.
func (c *collector) fromPatterns(ctx context.Context) ([]wanted, error) {
	paths, err := c.expand(ctx)
	if err != nil {
		return nil, err
	}
	if c.req.Name != "" && len(paths) != 1 {
		return nil, refuse(refusal.Malformed, "exactly one file beside subject-name", fmt.Sprintf("%d files", len(paths)),
			"leave subject-name out, or let subject-path name one file")
	}
	files := make([]wanted, 0, len(paths))
	for _, p := range paths {
		name := path.Base(p)
		if c.req.Name != "" {
			name = c.req.Name
		}
		files = append(files, wanted{path: p, name: name})
	}
	return files, nil
}

// fromClaims lists the file behind every claim. err is why there are no claims.
func (c *collector) fromClaims(claims []claim, err error) ([]wanted, error) {
	if err != nil {
		return nil, err
	}
	if len(claims) > c.limits.Subjects {
		return nil, c.tooMany(len(claims))
	}
	files := make([]wanted, 0, len(claims))
	for _, claim := range claims {
		files = append(files, wanted{path: path.Join(c.req.Workspace, claim.name), name: claim.name, claim: &claim.digest})
	}
	return files, nil
}

func (c *collector) tooMany(got int) error {
	return refuse(refusal.Policy, fmt.Sprintf("at most %d subjects", c.limits.Subjects), fmt.Sprintf("%d or more", got),
		"pack the outputs into fewer files")
}

func (c *collector) absolute(name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(c.req.Workspace, name)
}

// readList reads a small file of the sandbox whole.
func (c *collector) readList(name string, most int64) ([]byte, error) {
	p := c.absolute(name)
	if err := checkPath(p); err != nil {
		return nil, err
	}
	f, before, err := c.volumes.openRegular(p)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if before.Size > most {
		return nil, refuse(refusal.Malformed, fmt.Sprintf("a list of at most %d bytes", most),
			fmt.Sprintf("%s of %d bytes", quote(p), before.Size), "attest in several steps")
	}
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", quote(p), err)
	}
	if int64(len(raw)) != before.Size {
		return nil, changed(p)
	}
	return raw, c.volumes.unchanged(f, p, before)
}

// explain says of a claim's missing file why it has to be there.
func (w wanted) explain(err error) error {
	if w.claim == nil || !errors.Is(err, refusal.ErrMissing) {
		return err
	}
	return refuse(refusal.Missing, quote(w.name)+" as a file below the workspace", "no such file",
		"kettled attests only what it can hash: keep the file in the workspace until the step has run").Because(err)
}

// compare demands the digest that was claimed.
func (w wanted) compare(sum [32]byte) error {
	if w.claim == nil || sum == *w.claim {
		return nil
	}
	return refuse(refusal.Binding, fmt.Sprintf("sha256:%x for %s", *w.claim, quote(w.name)),
		fmt.Sprintf("sha256:%x in the file", sum), "state the digest of the file as it is now")
}
