// SPDX-License-Identifier: Apache-2.0

package build

import "slices"

// Format is a form in which the disk is written.
type Format string

// The forms, which all hold the same disk.
const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
	VHD   Format = "vhd"    // for Azure
	GCP   Format = "tar.gz" // for Google Cloud
)

// Formats gives all forms. The others are made of the raw one, which comes first and is always written when one of them is.
func Formats() []Format { return []Format{Raw, QCOW2, VHD, GCP} }

// File is the name of the file in an image folder, or "" for what is no form.
func (f Format) File() string {
	if !slices.Contains(Formats(), f) {
		return ""
	}
	return "disk." + string(f)
}

func (c *Config) wants(f Format) bool {
	return slices.Contains(c.Formats, f) || f == Raw && len(c.Formats) > 0
}
