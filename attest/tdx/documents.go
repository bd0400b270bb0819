// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"strings"
	"time"
)

// Intel adds keys to its documents within a version (tdxModuleIdentities and advisoryIDs came so). Where a key can only
// describe, an unknown one is passed over: in the TCB info itself and in its levels. Where keys are what a platform is
// compared with, an unknown one might be a condition that is not checked, and is refused: in the SVNs of a level, in
// module identities and in the QE identity.

// level is one TCB level (PCS, "TCB Info V3" and "Enclave Identity V2"). Components are for platforms, isvsvn for the
// module and the QE.
type level struct {
	sgx, tdx   [16]uint8
	pcesvn     uint16
	isvsvn     uint16
	date       time.Time
	status     Status
	advisories []string
}

// module is the identity of a TDX module.
type module struct {
	id               string
	signer           [48]byte
	attributes, mask [8]byte
	levels           []level
}

// dated is what both documents have.
type dated struct {
	version, evaluation uint32
	id                  string
	issued, nextUpdate  time.Time
}

// tcbInfo is a TCB info of version 3 for TDX.
type tcbInfo struct {
	dated
	fmspc   [6]byte
	pceID   [2]byte
	module  module // for modules of version 1.0
	modules []module
	levels  []level
}

// qeIdentity is an enclave identity of version 2 for the TD quoting enclave.
type qeIdentity struct {
	dated
	miscSelect, miscMask [4]byte
	attributes, mask     [16]byte
	signer               [32]byte
	product              uint16
	levels               []level
}

func parseTCBInfo(text []byte) (*tcbInfo, error) {
	t := &tcbInfo{}
	var kind uint32
	known := keys{open: true, optional: 1 << 9, names: []string{
		"id", "version", "issueDate", "nextUpdate", "tcbEvaluationDataNumber",
		"fmspc", "pceId", "tcbType", "tdxModule", "tdxModuleIdentities", "tcbLevels",
	}}
	err := readJSON(text, func(r *reader) error {
		return r.object(known, func(i int) error {
			switch i {
			case 5:
				return r.hex(t.fmspc[:])
			case 6:
				return r.hex(t.pceID[:])
			case 7:
				return r.number(&kind, 0) // 0 is the only way to compare components
			case 8:
				return r.module(&t.module, false)
			case 9:
				return r.array(func() error { return r.identity(&t.modules) })
			case 10:
				return r.array(func() error { return r.level(&t.levels, platformSVNs) })
			}
			return t.read(r, i)
		})
	})
	if err == nil && (t.id != "TDX" || t.version != 3 || len(t.levels) == 0) {
		err = errBounds
	}
	return t, err
}

func parseQEIdentity(text []byte) (*qeIdentity, error) {
	q := &qeIdentity{}
	known := keys{names: []string{
		"id", "version", "issueDate", "nextUpdate", "tcbEvaluationDataNumber",
		"miscselect", "miscselectMask", "attributes", "attributesMask", "mrsigner", "isvprodid", "tcbLevels",
	}}
	err := readJSON(text, func(r *reader) error {
		return r.object(known, func(i int) error {
			switch i {
			case 5:
				return r.hex(q.miscSelect[:])
			case 6:
				return r.hex(q.miscMask[:])
			case 7:
				return r.hex(q.attributes[:])
			case 8:
				return r.hex(q.mask[:])
			case 9:
				return r.hex(q.signer[:])
			case 10:
				return r.uint16(&q.product)
			case 11:
				return r.array(func() error { return r.level(&q.levels, enclaveSVN) })
			}
			return q.read(r, i)
		})
	})
	if err == nil && (q.id != "TD_QE" || q.version != 2 || len(q.levels) == 0) {
		err = errBounds
	}
	return q, err
}

func (d *dated) read(r *reader, i int) error {
	switch i {
	case 0:
		return r.str(&d.id, 16)
	case 1:
		return r.number(&d.version, 0xff)
	case 2:
		return r.time(&d.issued)
	case 3:
		return r.time(&d.nextUpdate)
	}
	return r.number(&d.evaluation, 1<<20)
}

// module reads the object of one module; only those in the list of identities have an id and levels.
func (r *reader) module(m *module, listed bool) error {
	known := keys{names: []string{"mrsigner", "attributes", "attributesMask", "id", "tcbLevels"}}
	if !listed {
		known.names = known.names[:3]
	}
	return r.object(known, func(i int) error {
		switch i {
		case 0:
			return r.hex(m.signer[:])
		case 1:
			return r.hex(m.attributes[:])
		case 2:
			return r.hex(m.mask[:])
		case 3:
			return r.str(&m.id, 16)
		}
		return r.array(func() error { return r.level(&m.levels, enclaveSVN) })
	})
}

// identity reads a module into the list, in which none stands twice.
func (r *reader) identity(list *[]module) error {
	var m module
	if err := r.module(&m, true); err != nil {
		return err
	}
	if len(m.levels) == 0 {
		return errBounds
	}
	for i := range *list {
		if strings.EqualFold((*list)[i].id, m.id) {
			return errRepeated
		}
	}
	*list = append(*list, m)
	return nil
}

// level reads a level, whose SVNs are read by svns, into the list.
func (r *reader) level(list *[]level, svns func(r *reader, l *level) error) error {
	var l level
	known := keys{open: true, optional: 1 << 3, names: []string{"tcb", "tcbDate", "tcbStatus", "advisoryIDs"}}
	err := r.object(known, func(i int) error {
		switch i {
		case 0:
			return svns(r, &l)
		case 1:
			return r.time(&l.date)
		case 2:
			return r.str((*string)(&l.status), maxStatus)
		}
		return r.array(func() error {
			var id string
			err := r.str(&id, 40)
			l.advisories = append(l.advisories, plain(id))
			return err
		})
	})
	if err == nil && !l.status.signed() {
		err = errBounds
	}
	*list = append(*list, l)
	return err
}

func platformSVNs(r *reader, l *level) error {
	known := keys{names: []string{"sgxtcbcomponents", "pcesvn", "tdxtcbcomponents"}}
	return r.object(known, func(i int) error {
		switch i {
		case 0:
			return r.components(&l.sgx)
		case 1:
			return r.uint16(&l.pcesvn)
		}
		return r.components(&l.tdx)
	})
}

func enclaveSVN(r *reader, l *level) error {
	return r.object(keys{names: []string{"isvsvn"}}, func(int) error { return r.uint16(&l.isvsvn) })
}

// components reads exactly 16 SVNs. Beside its SVN a component has only descriptions.
func (r *reader) components(to *[16]uint8) error {
	n := 0
	known := keys{names: []string{"svn"}, open: true}
	err := r.array(func() error {
		return r.object(known, func(int) error {
			var svn uint32
			err := r.number(&svn, 0xff)
			if n < len(to) {
				to[n] = uint8(svn)
			}
			n++
			return err
		})
	})
	if err == nil && n != len(to) {
		err = errBounds
	}
	return err
}

// plain gives s if it can be printed as it is, as identifiers of advisories can, and else its quotation.
func plain(s string) string {
	for _, c := range []byte(s) {
		if c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return printable(s)
		}
	}
	return s
}
