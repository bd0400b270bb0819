// SPDX-License-Identifier: Apache-2.0

package statement

import (
	"fmt"

	"github.com/kettle/attest/attest/binding"
)

// Outputs is how the outputs of a job were held still while they were hashed.
type Outputs string

// The ways to hold outputs.
const (
	OutputsFrozen   Outputs = ""         // hashed while the sandbox stood still
	OutputsSnapshot Outputs = "snapshot" // cloned by the file system while the sandbox stood still, hashed afterwards
	OutputsEnded    Outputs = "ended"    // hashed after every process of the sandbox was dead
)

func (o Outputs) valid() bool {
	return o == OutputsSnapshot || o == OutputsFrozen || o == OutputsEnded
}

// String says it in a word.
func (o Outputs) String() string {
	if o == OutputsFrozen {
		return "frozen"
	}
	return string(o)
}

// Egress is what the job could reach after dispatch, and what it reached so far beyond the pinned hosts. Those are in the
// configuration, which is bound by its digest. The FINAL statement lists every flow.
type Egress struct {
	Mode    EgressMode `json:"mode"`
	Flows   []Flow     `json:"flows,omitempty"`   // passed, in the order of their names
	Left    int        `json:"left,omitempty"`    // flows that found no place above
	Refused uint64     `json:"refused,omitempty"` // attempts that the gate refused
}

// EgressMode is what the job may reach after dispatch.
type EgressMode string

// The modes of egress.
const (
	EgressNone  EgressMode = "github-only" // the pinned hosts alone
	EgressAllow EgressMode = "allow"       // those, and what the measured configuration lists
	EgressAudit EgressMode = "audit"       // every public host, all of it recorded
)

func (e Egress) validate() error {
	if e.Mode != EgressNone && e.Mode != EgressAllow && e.Mode != EgressAudit {
		return malformed("egress github-only, allow or audit", fmt.Sprintf("%q", e.Mode))
	}
	for _, f := range e.Flows {
		if f.Host == "" || f.Refused != "" {
			return malformed("flows that passed, each with its host", fmt.Sprintf("%q, refused: %q", f.Host, f.Refused))
		}
	}
	return nil
}

// Flow sums up what the gate between the job and the network did alike: connections to one host and port, or attempts
// that it refused for one reason. The job chose the host; the gate counted.
type Flow struct {
	Host        string `json:"host,omitempty"` // a name, or an address when the job used one; empty when there were too many
	Port        int    `json:"port,omitempty"`
	Protocol    string `json:"protocol,omitempty"` // tls, http, tcp or dns
	Refused     string `json:"refused,omitempty"`  // why; empty for what passed
	Connections uint64 `json:"connections"`
	Sent        uint64 `json:"sent,omitempty"`     // bytes from the job
	Received    uint64 `json:"received,omitempty"` // bytes to the job
}

// Processes are those that still ran in the sandbox when it was killed. The job chose their names.
type Processes struct {
	Count int      `json:"count"`
	Names []string `json:"names"` // of the first ones, as /proc/PID/comm has them, quoted
}

// Disk counts what the job changed of the image's files. The list itself is a file of the environment's record.
type Disk struct {
	Created  int            `json:"created"`
	Changed  int            `json:"changed"`
	Deleted  int            `json:"deleted"`
	Complete bool           `json:"complete"` // false when a bound ended the counting
	List     binding.Digest `json:"list"`     // SHA-256 of changes.jsonl
}
