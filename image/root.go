// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/sha256"
	"encoding/binary"
)

// RootPart is the size of the parts in which a root image is hashed, in bytes. The last part may be shorter.
const RootPart = 4 << 20

const rootDomain = "kettle.root/v1\x00"

// RootDigest gives the digest of a root image as it stands on the command line:
//
//	SHA-256("kettle.root/v1" NUL ‖ u64(size) ‖ SHA-256(part 0) ‖ SHA-256(part 1) ‖ …)
//
// with the size in bytes as eight big-endian bytes and parts of [RootPart] bytes. Hashing in parts lets a guest use all
// its processors: without a processor that has SHA instructions the hash is most of the boot. The caller gives one
// digest for each part of the image, in order.
func RootDigest(size int64, parts []SHA256) SHA256 {
	h := sha256.New()
	h.Write([]byte(rootDomain))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(size))) //nolint:gosec // sizes are not negative.
	for _, p := range parts {
		h.Write(p[:])
	}
	return SHA256(h.Sum(nil))
}
