// SPDX-License-Identifier: Apache-2.0

//go:build !race

package nitro_test

// flipStep makes TestEveryBit take every bit.
const flipStep = 1
