// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// maxModuleList bounds a module list, in bytes.
const maxModuleList = 64 << 10

// Module is one kernel module that the guest loads, with the parameters that it gets.
type Module struct {
	File       string   // base name in [ModulesDir], for example "brd.ko"
	Parameters []string // each "name=value"; most modules have none
	Optional   bool     // for hardware that a machine may lack: the kernel may say that there is none
}

// optionalMark stands before the file name of an optional module.
const optionalMark = "?"

var (
	moduleFile      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_]*\.ko$`)
	moduleParameter = regexp.MustCompile(`^[a-z][a-z0-9_]*=[A-Za-z0-9_]+$`)
)

// String gives the module's line of the list, without the newline: a question mark when it is optional, the file, and the
// parameters, one space between each.
func (m Module) String() string {
	line := strings.Join(append([]string{m.File}, m.Parameters...), " ")
	if m.Optional {
		return optionalMark + line
	}
	return line
}

func (m Module) validate() error {
	if !moduleFile.MatchString(m.File) {
		return fmt.Errorf("want a base name that ends in .ko, got %q", m.File)
	}
	for _, p := range m.Parameters {
		if !moduleParameter.MatchString(p) {
			return fmt.Errorf("%s: want parameters name=value, got %q", m.File, p)
		}
	}
	return nil
}

// FormatModules gives the text of [ModuleList]: one module a line, in load order. What [ParseModules] would not read as
// the same modules is an error.
func FormatModules(modules []Module) (string, error) {
	var text strings.Builder
	for _, m := range modules {
		if err := m.validate(); err != nil {
			return "", fmt.Errorf("writing the module list: %w", err)
		}
		text.WriteString(m.String() + "\n")
	}
	if _, err := ParseModules(text.String()); err != nil {
		return "", fmt.Errorf("writing the module list: %w", err)
	}
	return text.String(), nil
}

// ParseModules reads what [FormatModules] writes and nothing else: a list has exactly one spelling. No module stands in
// it twice.
func ParseModules(text string) ([]Module, error) {
	if len(text) > maxModuleList {
		return nil, fmt.Errorf("reading the module list: %d bytes, at most %d are allowed", len(text), maxModuleList)
	}
	if !strings.HasSuffix(text, "\n") {
		return nil, errors.New("reading the module list: it is empty, or its last line has no end")
	}
	var modules []Module
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		line, optional := strings.CutPrefix(strings.TrimSuffix(line, "\n"), optionalMark)
		words := strings.Split(line, " ")
		m := Module{File: words[0], Parameters: words[1:], Optional: optional}
		if err := m.validate(); err != nil {
			return nil, fmt.Errorf("reading the module list: %w", err)
		}
		if seen[m.File] {
			return nil, fmt.Errorf("reading the module list: %s stands there twice", m.File)
		}
		seen[m.File] = true
		modules = append(modules, m)
	}
	return modules, nil
}
