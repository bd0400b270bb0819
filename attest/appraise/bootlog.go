// SPDX-License-Identifier: Apache-2.0

package appraise

import (
	"slices"

	"github.com/kettle/attest/attest/eventlog/tcg"
	"github.com/kettle/attest/attest/refusal"
)

// Registers up to these are the firmware's and the boot loader's: a log that leaves one of them out does not match.
// Those above are compared where the log speaks of them.
const (
	lastBootRTMR = 2
	lastBootPCR  = 7
	imaPCR       = 10 // the kernel's own log extends it
)

// BootLog compares an event log of firmware and boot loader with the quoted registers. What a log says that no register
// covers is not in the account; that a register which running software extends is left out by the log, Covered shows. It
// has nothing to do with the log of package eventlog, which is Kettle's own.
func (q *Quote) BootLog(log []byte) (*tcg.Account, error) {
	switch {
	case q.tpm != nil:
		l, err := tcg.ParseTPM(log)
		if err != nil {
			return nil, err
		}
		return l.Match(tcg.SHA256, q.bootPCRs(l.Registers()))
	case q.td != nil:
		l, err := tcg.ParseRTMR(log)
		if err != nil {
			return nil, err
		}
		return l.Match(tcg.SHA384, q.bootRTMRs(l.Registers()))
	}
	return nil, &refusal.Refusal{
		Link: "event-log", Code: refusal.EventLogMismatch, Want: "a platform with registers that a log could be replayed into",
		Got: "evidence of kind " + string(q.kind), Next: "judge this evidence without a log: its launch measurement covers what it covers",
	}
}

func (q *Quote) bootRTMRs(logged []int) map[int][]byte {
	out := map[int][]byte{}
	for i, v := range q.td.RTMRs() {
		if i <= lastBootRTMR || slices.Contains(logged, i) {
			out[i] = v[:]
		}
	}
	return out
}

func (q *Quote) bootPCRs(logged []int) map[int][]byte {
	out := map[int][]byte{}
	for _, i := range q.tpm.Selected() {
		v, ok := q.tpm.PCR(i)
		if ok && (i <= lastBootPCR || slices.Contains(logged, i) && i != imaPCR && i != jobPCR) {
			out[i] = v[:]
		}
	}
	return out
}
