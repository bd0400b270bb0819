// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"fmt"
	"strings"
	"time"
)

// Status is a TCB status as Intel calls it (PCS, "Enumeration: tcbStatus"; QVL for the last two).
type Status string

// The TCB statuses. Only [UpToDate] reaches a floor above signature.
const (
	UpToDate                             Status = "UpToDate"
	SWHardeningNeeded                    Status = "SWHardeningNeeded"
	ConfigurationNeeded                  Status = "ConfigurationNeeded"
	ConfigurationAndSWHardeningNeeded    Status = "ConfigurationAndSWHardeningNeeded"
	OutOfDate                            Status = "OutOfDate"
	OutOfDateConfigurationNeeded         Status = "OutOfDateConfigurationNeeded"
	Revoked                              Status = "Revoked"
	TDRelaunchAdvised                    Status = "TDRelaunchAdvised"
	TDRelaunchAdvisedConfigurationNeeded Status = "TDRelaunchAdvisedConfigurationNeeded"
)

const (
	maxStatus          = len(ConfigurationAndSWHardeningNeeded)
	maxAdvisoriesShown = 8
)

// signed reports whether s is a status that Intel writes into collateral.
func (s Status) signed() bool {
	switch s {
	case UpToDate, SWHardeningNeeded, ConfigurationNeeded, ConfigurationAndSWHardeningNeeded, OutOfDate,
		OutOfDateConfigurationNeeded, Revoked:
		return true
	}
	return false
}

// needsConfiguration reports whether a part of s is about configuration.
func (s Status) needsConfiguration() bool {
	switch s {
	case ConfigurationNeeded, ConfigurationAndSWHardeningNeeded, OutOfDateConfigurationNeeded:
		return true
	}
	return false
}

// worsen gives s with the status of one component (module or QE) taken in: a component makes the whole worse, never
// better (QVL, convergeTcbStatusWithTdxModuleStatus and convergeTcbStatusWithQeTcbStatus). A component that is neither
// up to date nor revoked counts as out of date.
func (s Status) worsen(component Status) Status {
	switch component {
	case UpToDate:
		return s
	case Revoked:
		return Revoked
	}
	switch s {
	case UpToDate, SWHardeningNeeded:
		return OutOfDate
	case ConfigurationNeeded, ConfigurationAndSWHardeningNeeded:
		return OutOfDateConfigurationNeeded
	}
	return s
}

// TCB is what Intel's collateral says of a platform: the converged status and the three that it comes from.
type TCB struct {
	Status Status // the worst of the three, by Intel's rules

	Platform Status // processor, microcode, firmware
	Module   Status // TDX module; up to date where a module of version 1.0 is judged with the platform
	QE       Status // quoting enclave

	// Advisories are Intel's identifiers for what is wrong, in the order of platform, module and QE, none twice.
	Advisories []string
	// Date is the oldest date of the three levels that matched: the platform has every fix published before it.
	Date time.Time
	// Evaluation is the lower number of the two documents' TCB recovery events (tcbEvaluationDataNumber).
	Evaluation uint32
	// Issued is the later issue date of the two documents, Expires the first time at which one of the endorsements ends.
	Issued, Expires time.Time
}

// String names all statuses and the advisories.
func (t TCB) String() string {
	s := fmt.Sprintf("%s (platform %s, TDX module %s, QE %s", t.Status, t.Platform, t.Module, t.QE)
	if n := len(t.Advisories); n > maxAdvisoriesShown {
		s += fmt.Sprintf("; %s and %d more", strings.Join(t.Advisories[:maxAdvisoriesShown], ", "), n-maxAdvisoriesShown)
	} else if n > 0 {
		s += "; " + strings.Join(t.Advisories, ", ")
	}
	return s + ")"
}
