// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/runner"
)

// appraiser checks this machine's own quotes against the roots of the measured configuration.
type appraiser struct {
	roots   []snp.Root
	allowed []string
}

var _ runner.Appraiser = appraiser{}

// Appraise implements [runner.Appraiser].
func (a appraiser) Appraise(q runner.Quote, at time.Time) (runner.Self, error) {
	r, err := snp.Verify(q.Report, q.Endorsement, a.roots, at)
	if err != nil {
		return runner.Self{}, err
	}
	if !slices.Contains(a.allowed, r.Platform()) {
		return runner.Self{}, fmt.Errorf("this image does not allow platform %q", r.Platform())
	}
	report, chip := r.ReportID(), r.ChipID()
	return runner.Self{
		Instance:    statement.Instance{Platform: r.Platform(), ReportID: hex.EncodeToString(report[:]), ChipID: hex.EncodeToString(chip[:])},
		Measurement: r.Measurement(),
	}, nil
}
