// SPDX-License-Identifier: Apache-2.0

//go:build race

package admission_test

// many is fewer with the race detector, which makes cryptography ten times as slow.
const many = 60
