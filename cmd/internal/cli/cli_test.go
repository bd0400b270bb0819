// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

type cannot struct{ is bool }

func (cannot) Error() string       { return "cannot" }
func (c cannot) Unsupported() bool { return c.is }

func refused(c refusal.Code) error {
	return fmt.Errorf("verifying: %w", &refusal.Refusal{Link: "quote", Code: c, Want: "w", Got: "g", Next: "n"})
}

// TestExitCode holds the table that scripts rely on. It may grow; a code never changes its meaning.
func TestExitCode(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err  error
		want int
	}{
		"nil":                   {nil, 0},
		"other":                 {os.ErrNotExist, 1},
		"deadline":              {context.DeadlineExceeded, 1},
		"usage":                 {Usagef("no such flag"), 2},
		"refusal in a config":   {Usagef("root: %w", refused(refusal.Chain)), 2},
		"signature":             {refused(refusal.Signature), 3},
		"chain":                 {refused(refusal.Chain), 3},
		"malformed":             {refused(refusal.Malformed), 3},
		"binding":               {refused(refusal.Binding), 3},
		"event log":             {refused(refusal.EventLogMismatch), 3},
		"endorsements mismatch": {refused(refusal.EndorsementsMismatch), 3},
		"revoked":               {refused(refusal.Revoked), 3},
		"unknown code":          {refused("new"), 3},
		"sentinel alone":        {refusal.ErrNotVerified, 3},
		"missing":               {refused(refusal.Missing), 4},
		"endorsements missing":  {refused(refusal.EndorsementsMissing), 4},
		"expired":               {refused(refusal.Expired), 4},
		"debug":                 {refused(refusal.Debug), 5},
		"tcb":                   {refused(refusal.TCB), 5},
		"measurement":           {refused(refusal.Measurement), 5},
		"identity":              {refused(refusal.Identity), 5},
		"policy":                {refused(refusal.Policy), 5},
		"lowest of several":     {errors.Join(refused(refusal.TCB), refused(refusal.Signature), refused(refusal.Missing)), 3},
		"refusal and failure":   {errors.Join(os.ErrNotExist, refused(refusal.TCB)), 5},
		"unsupported":           {fmt.Errorf("x: %w", cannot{true}), 6},
		"not unsupported":       {cannot{false}, 1},
		"remote":                {&RemoteError{errors.New("503")}, 7},
		"interrupted":           {fmt.Errorf("x: %w", context.Canceled), 130},
		"interrupted, refused":  {errors.Join(refused(refusal.TCB), context.Canceled), 130},
		"reported":              {&ReportedError{refused(refusal.TCB)}, 5},
	}
	for name, tc := range tests {
		if got := ExitCode(tc.err); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

// TestEveryRefusalFails shows that no code of a refusal ends with 0, the codes that are added later included.
func TestEveryRefusalFails(t *testing.T) {
	t.Parallel()
	for _, s := range []error{
		refusal.ErrSignature, refusal.ErrChain, refusal.ErrExpired, refusal.ErrMalformed, refusal.ErrDebug, refusal.ErrTCB,
		refusal.ErrEndorsementsMissing, refusal.ErrEndorsementsMismatch, refusal.ErrEventLogMismatch, refusal.ErrBinding,
		refusal.ErrMeasurement, refusal.ErrIdentity, refusal.ErrPolicy, refusal.ErrRevoked, refusal.ErrMissing,
	} {
		code := refusal.Code(s.Error())
		if !code.Valid() {
			t.Errorf("%s is not a code", code)
		}
		if got := ExitCode(refused(code)); got < ExitInvalid || got > ExitPolicy {
			t.Errorf("%s: %d", code, got)
		}
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err  error
		want string
	}{
		"none":     {nil, ""},
		"reported": {&ReportedError{errors.New("x")}, ""},
		"refusal":  {refused(refusal.TCB), "kettle: quote refused (tcb)\n  want  w\n  got   g\n  next  n\n"},
		"usage":    {Usagef("no such flag"), "kettle: no such flag\nRun with --help to see how it is used.\n"},
		"escape":   {errors.New("a\x1b[31mred\rb"), "kettle: a�[31mred�b\n"},
	}
	for name, tc := range tests {
		var b bytes.Buffer
		(&IO{Err: &b}).Report("kettle", tc.err)
		if b.String() != tc.want {
			t.Errorf("%s: %q, want %q", name, b.String(), tc.want)
		}
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain é 世": "plain é 世", "a\nb": "a�b", "\x1b]0;x\a": "�]0;x�", "a\u202eb": "a�b", "\xff": "�", "a\tb": "a�b",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
	if got := CleanLines("a\nb\x00"); got != "a\nb�" {
		t.Errorf("CleanLines %q", got)
	}
}

func TestColour(t *testing.T) {
	t.Parallel()
	if got := (&IO{}).Styled(Red, "x"); got != "x" {
		t.Errorf("no terminal: %q", got)
	}
	if got := (&IO{outColour: true}).Styled(Red, "x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("terminal: %q", got)
	}
	for _, env := range []string{"NO_COLOR", "TERM"} {
		s := System(func(k string) string {
			if k == env {
				return "dumb"
			}
			return ""
		})
		if s.outColour || s.errColour || s.errTTY {
			t.Errorf("%s does not take the colour away", env)
		}
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	p := (&IO{Err: &b}).Progress()
	p.Say("working")
	p.Done()
	if b.Len() != 0 {
		t.Errorf("no terminal, but wrote %q", b.String())
	}
	p = (&IO{Err: &b, errTTY: true}).Progress()
	p.Say("a %d\n", 1)
	p.Say("too soon")
	p.last = time.Time{}
	p.Say("b")
	p.Done()
	p.Done()
	if got := b.String(); got != "\r\x1b[Ka 1�\r\x1b[Kb\r\x1b[K" {
		t.Errorf("wrote %q", got)
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 30: "5.0 GiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestMainCode(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code := Main(ctx, strings.ToLower("Kettle"), func(ctx context.Context, _ *IO) error { return &ReportedError{ctx.Err()} })
	if code != ExitInterrupted {
		t.Errorf("code %d", code)
	}
}
