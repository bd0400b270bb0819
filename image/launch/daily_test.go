// SPDX-License-Identifier: Apache-2.0

//go:build !nightly

package launch

// nightly says that a second boot of an image is left to scripts/test-nightly.
const nightly = false
