// SPDX-License-Identifier: Apache-2.0

package disk

import "io"

// Footer is a VHD's footer.
func Footer(size int64, id [16]byte) []byte { return footer(size, id) }

// GCPUnit is GCP with a smaller unit than 1 GiB.
func GCPUnit(w io.Writer, disk io.Reader, size, unit int64) error { return gcp(w, disk, size, unit) }
