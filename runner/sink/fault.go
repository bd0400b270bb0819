// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// What an error of Put may match. Every error matches exactly one of them, but for a file name that is not allowed and
// for the caller's own cancellation. What to do about a sink that fails is the caller's: another sink, or less to store.
var (
	// ErrConflict means that other content exists under the name.
	ErrConflict = errors.New("a file of this name with other content exists in the record")
	// ErrFull means that there is no room for the file: no space, no quota, or more than the server takes.
	ErrFull = errors.New("the sink has no room for it")
	// ErrDown means that the sink could not be asked, or broke while it was.
	ErrDown = errors.New("the sink does not answer as it should")
	// ErrDenied means that the sink refuses, and would the next time.
	ErrDenied = errors.New("the sink refuses it")
)

// downError is a failure that may pass.
type downError struct {
	cause error
	after time.Duration // how long the server asks to wait
	final bool          // trying again at once does not help
}

// Error implements error.
func (e *downError) Error() string { return ErrDown.Error() + ": " + e.cause.Error() }

// Is makes it an [ErrDown].
func (e *downError) Is(target error) bool { return target == ErrDown }

// Unwrap implements errors.Unwrap.
func (e *downError) Unwrap() error { return e.cause }

// unanswered is a request without a whole answer. A certificate that was refused is refused the next time, too.
func unanswered(err error) error {
	var certificate *tls.CertificateVerificationError
	return &downError{cause: err, final: errors.As(err, &certificate)}
}

// judge says what a status means for a PUT. The reason phrase is the server's own text and is not repeated.
func (s *httpSink) judge(resp *http.Response) error {
	said := fmt.Errorf("it answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch code := resp.StatusCode; {
	case code == http.StatusOK, code == http.StatusCreated, code == http.StatusNoContent:
		return nil
	case code == http.StatusConflict, code == http.StatusPreconditionFailed:
		return ErrConflict
	case code == http.StatusInsufficientStorage, code == http.StatusRequestEntityTooLarge:
		return fmt.Errorf("%w: %w", ErrFull, said)
	case code == http.StatusNotImplemented, code == http.StatusHTTPVersionNotSupported:
	case code >= http.StatusInternalServerError, code == http.StatusTooManyRequests, code == http.StatusTooEarly, code == http.StatusRequestTimeout:
		return &downError{cause: said, after: s.retryAfter(resp.Header)}
	}
	return fmt.Errorf("%w: %w", ErrDenied, said)
}

// maxAsked bounds what a server can ask for before it is counted in nanoseconds.
const maxAsked = 24 * time.Hour

// retryAfter reads Retry-After (RFC 9110, section 10.2.3), as seconds or as a date. A date is compared with the server's own
// clock where it tells it. What cannot be read asks for nothing.
func (s *httpSink) retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil {
		return time.Duration(min(max(seconds, 0), int(maxAsked/time.Second))) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = s.now()
	}
	return min(max(at.Sub(now), 0), maxAsked)
}

// storing explains an error of the file system.
func storing(doing string, err error) error {
	if err == nil {
		return nil
	}
	kind := ErrDown
	switch {
	case isAny(err, syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG):
		kind = ErrFull
	case errors.Is(err, fs.ErrPermission), isAny(err, syscall.EROFS, syscall.ENOTDIR, syscall.ELOOP):
		kind = ErrDenied
	}
	return fmt.Errorf("%s: %w: %w", doing, kind, err)
}

func isAny(err error, numbers ...syscall.Errno) bool {
	for _, n := range numbers {
		if errors.Is(err, n) {
			return true
		}
	}
	return false
}
