// SPDX-License-Identifier: Apache-2.0

// Package action is the GitHub Action's face inside the sandbox: what action.yml and the started hook execute.
//
// It turns inputs, which come by environment variables, into one request at kettled's door, and the reply into outputs,
// a step summary and annotations. Guarantees: a refusal is an error and leaves no output behind; no text of the job's
// choice can break the summary's Markdown or forge a workflow command; the answer of GitHub's attestations API is always
// shown; nothing secret is printed. What a job leaves in the environment for the step that attests can make it fail or
// say something untrue; it cannot make kettled attest what does not stand in a file.
//
// It runs in the sandbox, so whoever controls the job controls it: it holds no key, decides nothing, and nothing that it
// says is believed. Only the job's own github-token passes through it, to GitHub. It is the only importer of
// go-githubactions.
package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sethvargo/go-githubactions"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/door"
)

// UsageError says that an input or an argument is wrong.
type UsageError struct{ text string }

// Error gives the fault.
func (e *UsageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// NotAttestedError says that this machine is no attested runner.
type NotAttestedError struct{ cause error }

// Error says what to do.
func (e *NotAttestedError) Error() string {
	return "this job does not run on an attested runner, so there is nothing that could vouch for its files; " +
		"give the job a runner that can: runs-on: attested-cvm"
}

// Unwrap gives the door's error.
func (e *NotAttestedError) Unwrap() error { return e.cause }

// Unsupported says that this platform cannot do it.
func (e *NotAttestedError) Unsupported() bool { return true }

// Program is one run of kettle-action. Out and Getenv are required.
type Program struct {
	Out    io.Writer                // where workflow commands and answers go: standard output
	Getenv func(name string) string // os.Getenv
	Client *http.Client             // for GitHub's attestations API; nil makes one
}

// uploadTimeout bounds the exchange with GitHub's attestations API.
const uploadTimeout = 30 * time.Second

// Annotates reports whether errors are shown as annotations of a workflow, so that nobody need print them again.
func (p *Program) Annotates() bool { return p.Getenv("GITHUB_ACTIONS") == "true" }

// Run runs the command that args name. Its error is a [UsageError], a [NotAttestedError], holds a [refusal.Refusal], or
// says what failed.
func (p *Program) Run(ctx context.Context, args []string) error {
	err := p.run(ctx, args)
	if err != nil && p.Annotates() && !errors.Is(err, context.Canceled) {
		p.workflow().WithFieldsMap(map[string]string{"title": title(err)}).Errorf("%s", oneLine(explain(err)))
	}
	return err
}

func (p *Program) run(ctx context.Context, args []string) error {
	path, args, help, err := flags(args)
	if err != nil {
		return err
	}
	if help {
		_, err := io.WriteString(p.Out, usage)
		return err
	}
	if len(args) != 1 {
		return usagef("one command is needed: attest, started or status")
	}
	d := door.Client{Path: path}
	switch args[0] {
	case "attest":
		err = p.attest(ctx, d)
	case "started":
		err = p.started(ctx, d)
	case "status":
		err = p.status(ctx, d)
	default:
		return usagef("%.64q is no command: attest, started and status are", args[0])
	}
	if errors.Is(err, door.ErrNoDoor) {
		return &NotAttestedError{cause: err}
	}
	return err
}

// flags reads the few flags there are, before or behind the command.
func flags(args []string) (path string, rest []string, help bool, err error) {
	path = door.SocketPath
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "--help" || a == "-h" || a == "help":
			return path, nil, true, nil
		case strings.HasPrefix(a, "--door="):
			path = strings.TrimPrefix(a, "--door=")
		case a == "--door" && i+1 < len(args):
			i++
			path = args[i]
		case a == "--script" && i+1 < len(args):
			i++ // the runner names the file with the step's text, as for a shell; there is nothing to read in it
		case strings.HasPrefix(a, "-"):
			return path, nil, false, usagef("%.64q is no flag: --door and --help are", a)
		default:
			rest = append(rest, a)
		}
	}
	if path == "" {
		return path, nil, false, usagef("--door needs the path of a socket")
	}
	return path, rest, false, nil
}

// started tells kettled that the hook runs. The hook has no output of its own, and it judges nothing: whatever a workflow's
// author made of the environment, kettled must learn that the job has started.
func (p *Program) started(ctx context.Context, d door.Client) error {
	s := door.Started{Claims: door.Claims{}}
	for _, name := range door.ClaimNames() {
		if v := p.Getenv(name); v != "" {
			s.Claims[name] = v
		}
	}
	url, token := p.Getenv("ACTIONS_ID_TOKEN_REQUEST_URL"), p.Getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	if url != "" && token != "" {
		s.IDToken = &door.IDToken{URL: url, Token: secret.New(token)}
	}
	return d.Started(ctx, s)
}

// status prints the state of the environment.
func (p *Program) status(ctx context.Context, d door.Client) error {
	s, err := d.Status(ctx)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, line := range [][2]string{{"phase", s.Phase}, {"runner", s.Runner}, {"build", s.BuildID}, {"platform", s.Platform}} {
		if line[1] != "" {
			fmt.Fprintf(&b, "%-10s %s\n", line[0], oneLine(line[1]))
		}
	}
	fmt.Fprintf(&b, "%-10s %d\n", "responses", s.Responses)
	_, err = io.WriteString(p.Out, b.String())
	return err
}

func (p *Program) workflow() *githubactions.Action {
	return githubactions.New(githubactions.WithWriter(p.Out), githubactions.WithGetenv(p.Getenv))
}

// explain says an error in sentences.
func explain(err error) string {
	all := refusal.All(err)
	if len(all) == 0 {
		return err.Error()
	}
	sentences := make([]string, 0, len(all))
	for _, r := range all {
		sentences = append(sentences, r.Error())
	}
	return strings.Join(sentences, " — ")
}

func title(err error) string {
	var usage *UsageError
	var not *NotAttestedError
	switch {
	case errors.As(err, &not):
		return "Not an attested runner"
	case errors.As(err, &usage):
		return "Wrong use of kettle/attest"
	case len(refusal.All(err)) > 0:
		return "Nothing was attested"
	}
	return "Attestation failed"
}

// oneLine makes text of foreign origin printable in one line, and takes the form of a workflow command from it: "##["
// begins one anywhere in a line, "::" at its beginning (ActionCommand.cs).
func oneLine(s string) string {
	s = strings.ReplaceAll(printable(strings.Join(strings.Fields(s), " ")), "##[", "##\u00a0[")
	if strings.HasPrefix(s, "::") {
		return ":\u00a0" + s[1:]
	}
	return s
}
