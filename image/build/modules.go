// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kettle/attest/image"
)

// module is one kernel module, uncompressed and still signed.
type module struct {
	image.Module
	data []byte
}

// loadOrder gives the wanted modules after everything that they depend on. The dependencies are read from the modules
// themselves (.modinfo, as depmod does): Debian's package carries no modules.dep.
//
// An optional module stays out of the kernel where its hardware is missing; what it depends on does not.
func loadOrder(ctx context.Context, tree string, wanted, optional []string) ([]module, error) {
	r := &resolver{files: map[string]string{}, seen: map[string]bool{}, optional: optional}
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			if base, _, ok := strings.Cut(entry.Name(), ".ko"); ok {
				r.files[moduleName(base)] = path
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing the kernel modules: %w", err)
	}
	for _, name := range slices.Concat(wanted, optional) {
		if err := r.add(ctx, moduleName(name)); err != nil {
			return nil, fmt.Errorf("resolving the kernel module %s: %w", name, err)
		}
	}
	return r.order, nil
}

type resolver struct {
	files    map[string]string // name to file
	seen     map[string]bool
	optional []string // names
	order    []module
}

func (r *resolver) add(ctx context.Context, name string) error {
	if r.seen[name] {
		return nil
	}
	r.seen[name] = true
	path, ok := r.files[name]
	if !ok {
		return fmt.Errorf("%s: this kernel does not have it", name)
	}
	data, err := readModule(ctx, path)
	if err != nil {
		return err
	}
	depends, err := moduleDepends(data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, d := range depends {
		if err := r.add(ctx, moduleName(d)); err != nil {
			return err
		}
	}
	r.order = append(r.order, module{
		Module: image.Module{File: name + ".ko", Parameters: moduleParameters[name], Optional: slices.Contains(r.optional, name)}, data: data,
	})
	return nil
}

// moduleName spells a module's name as the kernel does.
func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }

func readModule(ctx context.Context, path string) ([]byte, error) {
	if strings.HasSuffix(path, ".xz") {
		return run(ctx, tool{name: "xz", args: []string{"-dc", path}})
	}
	return os.ReadFile(path) //nolint:gosec // a file of the unpacked kernel.
}

// moduleDepends reads "depends=a,b" from the module's .modinfo section: NUL-terminated "key=value" strings.
func moduleDepends(data []byte) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("reading the module: %w", err)
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("reading the module: it has no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("reading the module: %w", err)
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
