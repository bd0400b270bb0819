// SPDX-License-Identifier: Apache-2.0

// Package strict is internal/strict under the name that runner/github and cmd/kettled import. It goes when they import
// that one.
package strict

import "github.com/kettle/attest/internal/strict"

// Decode is [strict.Decode].
func Decode(data []byte, v any) error { return strict.Decode(data, v) }

// Unique is [strict.Unique].
func Unique(data []byte) error { return strict.Unique(data) }
