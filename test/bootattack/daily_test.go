// SPDX-License-Identifier: Apache-2.0

//go:build !nightly

package bootattack

// nightly says that attacks which stop where others do are left to scripts/test-nightly.
const nightly = false
