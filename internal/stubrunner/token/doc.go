// SPDX-License-Identifier: Apache-2.0

// Package token holds template tokens: pieces of a workflow or action file that may contain expressions.
//
// A job message carries them as JSON (a plain value, or an object with "type" 0 text, 1 sequence, 2 mapping, 3
// expression, 4 insertion, 5 boolean, 6 number, 7 null); an action file carries them as YAML text with "${{ }}".
//
// Guarantees: the order of mappings is kept; text with expressions becomes one expression, as GitHub's own conversion
// makes it. Trusts: package expr. Does not: check a file against GitHub's schema.
package token
