// SPDX-License-Identifier: Apache-2.0

//go:build !race

package stubrunner_test

const raceEnabled = false
