// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"os"
	"strings"
)

// hook is the started or the completed hook: a script of the runner's administrator.
type hook struct {
	path    string
	started bool
}

var errHook = errors.New("is not a valid path to a script. Make sure it ends in '.sh'; this stand-in runs no other hooks")

func (h *hook) run(ctx context.Context, f *frame) error {
	name := "job completed hook"
	if h.started {
		name = "job started hook"
	}
	f.output("A " + name + " has been configured by the self-hosted runner administrator")
	if info, err := os.Stat(h.path); err != nil || !info.Mode().IsRegular() {
		return errors.New("File doesn't exist") //nolint:staticcheck // The real runner's words.
	}
	if err := f.writeEvent(); err != nil {
		return err
	}
	if !strings.HasSuffix(h.path, ".sh") {
		return errors.Join(errors.New(h.path), errHook)
	}
	sh, err := f.job.findShell("")
	if err != nil {
		return err
	}
	f.output("##[group]Run '" + h.path + "'")
	f.output("shell: " + sh.program + " " + sh.args)
	f.output("##[endgroup]")
	files, err := f.openFiles()
	if err != nil {
		return err
	}
	defer files.process(ctx)
	return f.runHookShell(ctx, sh, h.path)
}
