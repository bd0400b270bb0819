// SPDX-License-Identifier: Apache-2.0

package tdx

// ParseSGXExtension lets tests reach the reader of the SGX extension without signing a certificate each time.
var ParseSGXExtension = parseSGXExtension
