// SPDX-License-Identifier: Apache-2.0

//go:build !nightly

package boot_test

// nightly says that attacks which stop where others do are left to scripts/test-nightly.
const nightly = false
