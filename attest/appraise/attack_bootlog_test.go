// SPDX-License-Identifier: Apache-2.0

package appraise_test

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"testing"
	"time"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/tdx/tdxtest"
)

// TestAttackStrippedBootLog: a log from which all events of a boot register were taken does not match, even though what
// is left of it does.
func TestAttackStrippedBootLog(t *testing.T) {
	t.Parallel()
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0c, 0, 48, 0, 0) // SHA-384 alone
	log := append([]byte{1, 0, 0, 0, 3, 0, 0, 0}, make([]byte, 20)...)
	log = append(append(log, byte(len(spec)), 0, 0, 0), spec...)
	digest := bytes.Repeat([]byte{7}, 48)
	log = append(append(log, 1, 0, 0, 0, 1, 0, 0, 0x80, 1, 0, 0, 0, 0x0c, 0), digest...) // RTMR 0
	log = append(log, 0, 0, 0, 0)
	p := tdxtest.New(tdxtest.Config{At: day().Add(-time.Hour)})
	for register := range 3 {
		quote := tdxtest.NewQuote()
		quote.Body.RTMR = [4][48]byte{sha512.Sum384(append(make([]byte, 48), digest...))}
		if register > 0 {
			quote.Body.RTMR[register] = [48]byte{1} // extended by what the log keeps to itself
		}
		e := evidence.Evidence{Kind: evidence.TDX, Report: p.Quote(quote)}
		q, err := appraise.Verify(&e, nil, private(t, p.PEM(tdxtest.Root)), p.Day())
		fatal(t, err)
		account, err := q.BootLog(log)
		if register == 0 && err != nil || register > 0 && (!errors.Is(err, refusal.ErrEventLogMismatch) || account != nil) {
			t.Errorf("register %d: %v", register, err)
		}
	}
}
