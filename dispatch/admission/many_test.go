// SPDX-License-Identifier: Apache-2.0

//go:build !race

package admission_test

// many is how many machines ask at once in TestMany.
const many = 1000
