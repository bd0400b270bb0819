// SPDX-License-Identifier: Apache-2.0

//go:build nightly

package launch

// nightly says that everything is booted: go test -tags nightly.
const nightly = true
