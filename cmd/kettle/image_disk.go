// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/image/build"
)

// diskFlags are the flags as written.
type diskFlags struct {
	bundle  string
	formats []string
}

func (a *app) imageDiskCommand() *cobra.Command {
	var f diskFlags
	cmd := &cobra.Command{
		Use:   "disk FOLDER [--bundle FILE] [--format raw,...]",
		Short: "Put an image's bundle into its disk, and write the disk in other forms",
		Long: `disk puts the image's bundle (provenance and reference values) into the partition of disk.raw that a machine reads it from,
and then writes the disk in the forms asked for. A form that was written before the bundle was there has none: a machine
that is started from it refuses itself.

Every file is compared with image.json first. What the bundle says is for kettle image verify, and for the machine, to judge;
the partition is part of no digest.`,
		Example: `  kettle image disk image --format vhd,tar.gz          # image/image.intoto.jsonl, as kettle image attest wrote it
  kettle image disk image --bundle downloaded.intoto.jsonl`,
		Args: cobra.ExactArgs(1),
		RunE: a.Does(func(cmd *cobra.Command, args []string) error { return a.imageDisk(cmd.Context(), f, args[0]) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.bundle, "bundle", "", "file with the image's statements (default FOLDER/"+imageBundle+")")
	flags.StringSliceVar(&f.formats, "format", nil, "forms to write besides disk.raw: qcow2, vhd, tar.gz; several with commas")
	return cmd
}

func (a *app) imageDisk(ctx context.Context, f diskFlags, dir string) error {
	var forms []build.Format
	for _, name := range f.formats {
		form := build.Format(name)
		if form.File() == "" {
			return cli.Usagef("--format %.20q: want raw, qcow2, vhd or tar.gz", name)
		}
		if form != build.Raw && !slices.Contains(forms, form) {
			forms = append(forms, form)
		}
	}
	if f.bundle == "" {
		f.bundle = filepath.Join(dir, imageBundle)
	}
	lines, err := readBounded(f.bundle, bundle.MaxFile)
	if err != nil {
		return cli.Usagef("--bundle: %w", err)
	}
	if _, err := bundle.Certified(lines); err != nil {
		return err
	}
	progress := a.io.Progress()
	defer progress.Done()
	folder, err := openImage(ctx, dir, progress)
	if err != nil {
		return err
	}
	if err := folder.putBundle(lines); err != nil {
		return err
	}
	written := []string{build.Raw.File()}
	for _, form := range forms {
		progress.Say("writing %s", form.File())
		if err := convert(ctx, dir, form); err != nil {
			return err
		}
		written = append(written, form.File())
	}
	if _, err := fmt.Fprintf(a.io.Out, "written   %s\n", strings.Join(written, ", ")); err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}

// convert writes a form whole or not at all, over one that is there.
func convert(ctx context.Context, dir string, form build.Format) error {
	work, err := os.MkdirTemp(dir, ".disk-")
	if err != nil {
		return err
	}
	made := filepath.Join(work, form.File())
	err = build.Convert(ctx, filepath.Join(dir, build.Raw.File()), made, form)
	if err == nil {
		err = os.Rename(made, filepath.Join(dir, form.File()))
	}
	return errors.Join(err, os.RemoveAll(work))
}
