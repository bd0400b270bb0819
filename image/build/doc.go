// SPDX-License-Identifier: Apache-2.0

// Package build makes a build image: kernel, initrd, root file system, UKI, disk, bill of materials and manifest.
//
// It drives well-kept tools (apt, mmdebstrap, mkfs.erofs) and writes the rest itself. What it guarantees:
//
//   - An image is of the packages that a lock names (package image/locks) and of no other. They come by digest, from the
//     archive or its history, and are installed by programs that have no network. The program that packs the root is one of
//     them. A lock is taken by apt, which checks the archive's signatures against Debian's own keys, whatever this machine runs.
//   - The same lock, programs and folders give the same bytes of every file: no clock, time zone, language, user, umask, path
//     or name of the machine changes one. The versions of mmdebstrap, mkfs.vfat, mtools and qemu-img are the machine's; the
//     first three write nothing of themselves into an image as far as is known.
//   - No root is packed in which somebody could log in, or which has an agent of a cloud, or a program that raises rights
//     beyond a short list.
//   - The manifest names the bytes that lie beside it; nothing stays mounted; an interrupted build leaves no half-made file
//     under a final name.
//
// It takes root to make a base system or a root file system, whose files belong to several users, and for nothing else.
//
// What it trusts: this machine, the archive's keys at the time when a lock is taken, and every file that it is given. The
// files that verify an image never import this package.
package build
