// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/runner"
)

// appraiser checks this machine's own quotes against the roots of the measured configuration.
type appraiser struct {
	roots   appraise.Roots
	allowed []string
}

var _ runner.Appraiser = appraiser{}

// Appraise implements [runner.Appraiser].
func (a appraiser) Appraise(q runner.Quote, at time.Time) (runner.Self, error) {
	v, err := appraise.Verify(&q.Evidence, nil, a.roots, at)
	if err != nil {
		return runner.Self{}, err
	}
	if !slices.Contains(a.allowed, v.Platform()) {
		return runner.Self{}, fmt.Errorf("this image does not allow platform %q", v.Platform())
	}
	return runner.Self{Instance: v.Instance(), Measurement: v.Environment().Measurement}, nil
}
