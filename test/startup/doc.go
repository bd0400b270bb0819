// SPDX-License-Identifier: Apache-2.0

// Package startup measures what kettled costs a machine until its runner listens for a job: from the start of QEMU to the
// runner's session at the stand-in for GitHub, with the image and with a machine that has the same kernel, modules, root and
// runner program and a few lines of init between them, in rounds of one each.
//
// It has no code of its own outside of its test, which is built with the tag bench:
//
//	go test -tags bench -run TestBench -timeout 2h -v ./test/startup
//
// The other machine is what people run today: its runner was registered by somebody else before, its root is not verified, its
// runner program runs without a sandbox, and nothing is quoted.
package startup
