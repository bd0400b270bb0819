// SPDX-License-Identifier: Apache-2.0

//go:build race

package nitro_test

// flipStep makes TestEveryBit take a sample: the race detector makes a signature ten times as dear.
const flipStep = 53
