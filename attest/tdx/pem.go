// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
)

const (
	pemBegin   = "-----BEGIN CERTIFICATE-----"
	pemEnd     = "-----END CERTIFICATE-----"
	pemColumns = 64
	maxPEM     = 64 << 10
)

// strictPEM reads exactly count certificates. The text of a certificate chain is signed by nobody, and encoding/pem
// skips what it does not understand: here every byte has one reading, so that no bit of a quote can change unseen. Lines
// have 64 columns and end in LF or CRLF, base64 is canonical, empty lines may stand between certificates and nothing
// else may.
func strictPEM(text []byte, count int) ([][]byte, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("more than %d bytes", maxPEM)
	}
	ders := make([][]byte, 0, count)
	for rest := text; ; {
		line, after := cutLine(rest)
		switch {
		case len(line) == 0 && len(after) == 0:
			if len(ders) != count {
				return nil, fmt.Errorf("%d certificates", len(ders))
			}
			return ders, nil
		case len(line) == 0:
			rest = after
		case string(line) != pemBegin:
			return nil, fmt.Errorf("bytes that are no certificate after certificate %d", len(ders))
		case len(ders) == count:
			return nil, fmt.Errorf("more than %d certificates", count)
		default:
			der, end, err := pemBody(after)
			if err != nil {
				return nil, fmt.Errorf("certificate %d: %w", len(ders)+1, err)
			}
			ders, rest = append(ders, der), end
		}
	}
}

// pemBody reads the lines of one certificate up to its end marker.
func pemBody(text []byte) (der, rest []byte, err error) {
	joined := make([]byte, 0, 2<<10)
	for short := false; ; {
		line, after := cutLine(text)
		if string(line) == pemEnd {
			rest = after
			break
		}
		if len(line) == 0 || len(line) > pemColumns || short {
			return nil, nil, errors.New("a line of another length than 64 columns")
		}
		short = len(line) < pemColumns
		joined, text = append(joined, line...), after
	}
	der = make([]byte, base64.StdEncoding.DecodedLen(len(joined)))
	n, err := base64.StdEncoding.Strict().Decode(der, joined)
	if err != nil || n == 0 {
		return nil, nil, errors.New("no canonical base64")
	}
	return der[:n], rest, nil
}

// cutLine gives the bytes before the next line end, and those after it.
func cutLine(text []byte) (line, rest []byte) {
	line, rest, ended := bytes.Cut(text, []byte{'\n'})
	if ended && len(line) > 0 && line[len(line)-1] == '\r' {
		line = line[:len(line)-1]
	}
	return line, rest
}
