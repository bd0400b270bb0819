// SPDX-License-Identifier: Apache-2.0

//go:build !nightly

package sandbox_test

// nightlyTag says that the docker profile's own system is left to scripts/test-nightly.
const nightlyTag = ""
