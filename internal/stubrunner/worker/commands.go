// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/kettle/attest/internal/stubrunner/message"
	"github.com/kettle/attest/internal/stubrunner/service"
)

// workflowCommand is one "::name key=value::data" line of a step's output.
type workflowCommand struct {
	name       string
	properties map[string]string
	data       string
}

// commandReader is the state of one step's output: whether commands are read, and until which token not.
type commandReader struct {
	stopToken string
	echo      bool
}

func (f *frame) handleLine(line string) {
	if f.commands == nil {
		f.commands = &commandReader{echo: f.job.debug()}
	}
	if strings.Contains(line, "::") || strings.Contains(line, "##[") {
		if c, ok := parseCommand(line); ok && f.runCommandLine(line, c) {
			return
		}
	}
	f.output(line)
}

// parseCommand reads "::name k=v,k=v::data" at the start of a line, or "##[name k=v;k=v]data" anywhere in it.
func parseCommand(line string) (workflowCommand, bool) {
	if rest, ok := strings.CutPrefix(strings.TrimLeft(line, " \t"), "::"); ok {
		head, data, found := strings.Cut(rest, "::")
		if !found {
			return workflowCommand{}, false
		}
		return splitCommand(head, ",", unescapeProperty, unescapeData(data)), true
	}
	_, rest, ok := strings.Cut(line, "##[")
	if !ok {
		return workflowCommand{}, false
	}
	head, data, found := strings.Cut(rest, "]")
	if !found {
		return workflowCommand{}, false
	}
	return splitCommand(head, ";", unescapeLegacy, unescapeLegacy(data)), true
}

func splitCommand(head, separator string, unescape func(string) string, data string) workflowCommand {
	name, props, _ := strings.Cut(head, " ")
	c := workflowCommand{name: strings.ToLower(name), properties: map[string]string{}, data: data}
	for p := range strings.SplitSeq(strings.TrimSpace(props), separator) {
		if k, v, ok := strings.Cut(p, "="); ok && k != "" && v != "" {
			c.properties[strings.ToLower(strings.TrimSpace(k))] = unescape(v)
		}
	}
	return c
}

func unescapeData(s string) string {
	return strings.NewReplacer("%0D", "\r", "%0A", "\n", "%25", "%").Replace(s)
}

func unescapeProperty(s string) string {
	return strings.NewReplacer("%0D", "\r", "%0A", "\n", "%3A", ":", "%2C", ",", "%25", "%").Replace(s)
}

func unescapeLegacy(s string) string {
	return strings.NewReplacer("%3B", ";", "%0D", "\r", "%0A", "\n", "%5D", "]", "%25", "%").Replace(s)
}

// runCommandLine acts on a command; false means that the line is plain output.
func (f *frame) runCommandLine(line string, c workflowCommand) bool {
	if f.commands.stopToken != "" {
		if c.name != strings.ToLower(f.commands.stopToken) {
			return false
		}
		f.commands.stopToken = ""
		f.output(line)
		return true
	}
	action, known := f.lookupCommand(c)
	if !known {
		return false
	}
	if f.commands.echo && c.name != "add-mask" && !isLogCommand(c.name) {
		f.output(line)
	}
	if err := action(); err != nil {
		if c.name == "add-mask" {
			line = c.name
		}
		f.error(fmt.Sprintf("Unable to process command '%s' successfully.", line))
		f.error(err.Error())
		f.command = message.Failed
	}
	return true
}

func isLogCommand(name string) bool {
	switch name {
	case "debug", "warning", "error", "notice", "group", "endgroup", "stop-commands":
		return true
	default:
		return false
	}
}

func (f *frame) lookupCommand(c workflowCommand) (func() error, bool) {
	switch c.name {
	case "set-output":
		return func() error { return f.named(c, f.setOutput) }, true
	case "save-state":
		return func() error { return f.named(c, func(k, v string) { f.state[k] = v }) }, true
	case "set-env", "add-path":
		return func() error { return disabledCommand(c.name) }, true
	case "add-mask":
		return func() error { f.addMask(c.data); return nil }, true
	case "echo":
		return func() error { return f.setEcho(c.data) }, true
	case "stop-commands":
		return func() error { return f.stopCommands(c.data) }, true
	case "add-matcher", "remove-matcher":
		return func() error { f.debug("Problem matchers are not used."); return nil }, true
	default:
		return f.lookupLogCommand(c)
	}
}

func (f *frame) lookupLogCommand(c workflowCommand) (func() error, bool) {
	switch c.name {
	case "debug":
		return func() error { f.debug(c.data); return nil }, true
	case "group", "endgroup":
		return func() error { f.output("##[" + c.name + "]" + c.data); return nil }, true
	case "warning":
		return func() error { f.annotate(c, "warning", "##[warning]"); return nil }, true
	case "error":
		return func() error { f.annotate(c, "failure", "##[error]"); return nil }, true
	case "notice":
		known := f.job.message.Flag("DistributedTask.EnhancedAnnotations")
		return func() error { f.annotate(c, "notice", "##[notice]"); return nil }, known
	default:
		return nil, false
	}
}

func (f *frame) named(c workflowCommand, set func(name, value string)) error {
	name := c.properties["name"]
	if name == "" {
		return fmt.Errorf("Required field 'name' is missing in ##[%s] command.", c.name) //nolint:revive,staticcheck // The real runner's words.
	}
	set(name, c.data)
	return nil
}

func disabledCommand(name string) error {
	return fmt.Errorf("The `%s` command is disabled. Please upgrade to using Environment Files or opt into unsecure command "+ //nolint:staticcheck // The real runner's words.
		"execution by setting the `ACTIONS_ALLOW_UNSECURE_COMMANDS` environment variable to `true`.", name)
}

func (f *frame) addMask(value string) {
	if strings.TrimSpace(value) == "" {
		f.warning("Can't add secret mask for empty string in ##[add-mask] command.")
		return
	}
	f.job.config.Masker.AddLines(value)
}

func (f *frame) setEcho(mode string) error {
	switch strings.ToLower(strings.TrimSpace(mode)) {
	case "on":
		f.commands.echo = true
	case "off":
		f.commands.echo = false
	default:
		return fmt.Errorf("Invalid echo command value. Possible values can be: 'on', 'off'. Current value is: '%s'.", mode) //nolint:revive,staticcheck // The real runner's words.
	}
	return nil
}

func (f *frame) stopCommands(token string) error {
	if _, taken := f.lookupCommand(workflowCommand{name: strings.ToLower(token)}); taken || token == "" ||
		strings.EqualFold(token, "pause-logging") {
		return fmt.Errorf("You cannot use a endToken that is an empty string, the string 'pause-logging', or another workflow command.") //nolint:revive,staticcheck // The real runner's words.
	}
	f.commands.stopToken = token
	if len(token) > 6 {
		f.job.config.Masker.Add(token)
	}
	f.output("::stop-commands::" + token)
	return nil
}

func (f *frame) annotate(c workflowCommand, level, tag string) {
	a := service.Annotation{
		Level: level, Message: c.data, Title: c.properties["title"], Path: c.properties["file"],
		StartLine: number(c.properties["line"]), EndLine: number(c.properties["endline"]),
		StartColumn: number(c.properties["col"]), EndColumn: number(c.properties["endcolumn"]),
	}
	if a.EndLine == 0 {
		a.EndLine = a.StartLine
	}
	if a.EndColumn == 0 {
		a.EndColumn = a.StartColumn
	}
	f.log.issue(a, tag)
}

func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0
	}
	return n
}
