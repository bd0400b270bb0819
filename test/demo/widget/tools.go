// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package widget packs a pinned release of age. It has no code of its own.
package widget

import _ "filippo.io/age/cmd/age"
