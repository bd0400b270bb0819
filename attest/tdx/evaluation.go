// SPDX-License-Identifier: Apache-2.0

package tdx

import "time"

// FloorDate is the day the table below was last compared with its sources.
const FloorDate = "2026-11-22"

// recovery is one TCB recovery event: the number of the evaluation data set that holds its fixes to be needed, and the
// day it was published.
type recovery struct {
	number           uint32
	year, month, day int
}

// recoveries are Intel's TCB recovery events for TDX, the newest first (PCS, "Retrieve TCB Evaluation Data Numbers",
// as observed). Intel signs fresh collateral for older numbers on request, for as long as it supports them: an issue
// date says nothing about what a document demands of a platform. The number does.
func recoveries() [4]recovery {
	return [...]recovery{
		{20, 2025, 8, 12},
		{19, 2025, 5, 13},
		{18, 2024, 11, 12},
		{17, 2024, 3, 12},
	}
}

// Intel's own choice ("standard") is the highest number whose event is at least twelve months old. The default floor
// follows it, two weeks behind, since Intel changes over within days and not at midnight. The strict floor gives
// operators half the time.
const (
	standardMonths = 12
	standardDays   = 14
	strictMonths   = 6
)

// minimumEvaluation gives the lowest number that collateral issued on a day may have, the event being so many months and
// days past. Days before the table have no floor by number: collateral of that time is held by its dates alone.
func minimumEvaluation(issued time.Time, months, days int) uint32 {
	for _, r := range recoveries() {
		if from := time.Date(r.year, time.Month(r.month+months), r.day+days, 0, 0, 0, 0, time.UTC); !issued.Before(from) {
			return r.number
		}
	}
	return 0
}
