// SPDX-License-Identifier: Apache-2.0

// Package build makes a build image: kernel, initrd, root file system, command line and manifest.
//
// It drives well-kept tools (apt, mmdebstrap, mkfs.erofs) and writes the rest itself. What it guarantees: packages come
// from a Debian archive whose signatures apt has checked against Debian's own keys, whatever this machine runs; the
// manifest names the bytes that lie beside it; nothing stays mounted; an interrupted build leaves no half-made file
// under a final name. It needs root for the root file system, and only for that.
//
// What it trusts: this machine, the archive's keys and every file that it is given. The files that verify an image
// never import this package. A second build of the same recipe from the same archive state gives the same initrd;
// that the root file system does as well is not promised yet.
package build
