// SPDX-License-Identifier: Apache-2.0

// Package secret holds a string that does not print itself.
//
// In a confidential VM the console and every exported log are read by the untrusted host, so a credential must not
// reach them by accident: every way of formatting a [String] yields "[redacted]". It does not protect against code
// that calls [String.Reveal].
package secret

import "log/slog"

const redacted = "[redacted]"

// String is a credential. The zero value is empty. It holds a pointer, because package fmt calls no methods on
// unexported fields of a struct that it prints and would show the text itself.
type String struct{ value *string }

// New wraps a credential.
func New(value string) String { return String{&value} }

// Reveal returns the credential itself, for the one call that must send it.
func (s String) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Empty reports whether there is no credential.
func (s String) Empty() bool { return s.Reveal() == "" }

// String implements [fmt.Stringer].
func (s String) String() string { return redacted }

// GoString implements [fmt.GoStringer].
func (s String) GoString() string { return redacted }

// MarshalText implements [encoding.TextMarshaler], and thereby JSON.
func (s String) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements [slog.LogValuer].
func (s String) LogValue() slog.Value { return slog.StringValue(redacted) }
