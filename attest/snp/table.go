// SPDX-License-Identifier: Apache-2.0

package snp

import (
	_ "embed"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kettle/attest/internal/strict"
)

// TableSchema names the format that [ParseTable] reads.
const TableSchema = "kettle.snp-tcb/v1"

// The table as shipped. Its file is the one place where a floor is written down.
//
//go:embed tcb.json
var tableFile []byte

const (
	maxTableBytes = 64 << 10
	maxTableRows  = 256
	maxTableText  = 200
)

// Table gives, by processor, the lowest TCB without a known and published hole. Microcode versions of different
// steppings cannot be compared, so a row is for one family, model and stepping. A processor without a row has no floor
// and is refused: a new stepping needs a new row, not the benefit of the doubt. The zero Table holds no row. A Table is
// never changed once made.
type Table struct {
	date string
	rows map[CPU]Row
}

// Row is what the table says of one processor.
type Row struct {
	Name     string // for people, for example "Genoa B1"
	Floor    TCB    // [floor.Default] asks for it
	Strict   TCB    // [floor.Strict] asks for it; at least Floor in every part
	Siblings uint8  // microcode that keeps sibling threads of the host apart from the guest; 0 if none is known
	Source   string // the advisories behind Floor, Strict and Siblings
}

// tcbJSON has pointers because every part of a floor has to be written down: a forgotten one is not zero.
type tcbJSON struct {
	FMC        *uint8 `json:"fmc"`
	Bootloader *uint8 `json:"bootloader"`
	TEE        *uint8 `json:"tee"`
	SNP        *uint8 `json:"snp"`
	Microcode  *uint8 `json:"microcode"`
}

type rowJSON struct {
	Name           string   `json:"name"`
	Family         *uint8   `json:"family"`
	Model          *uint8   `json:"model"`
	Stepping       *uint8   `json:"stepping"`
	Floor          *tcbJSON `json:"floor"`
	Source         string   `json:"source"`
	Strict         *tcbJSON `json:"strict"`
	StrictSource   string   `json:"strictSource"`
	Siblings       *uint8   `json:"siblings"`
	SiblingsSource string   `json:"siblingsSource"`
}

// builtin is parsed once: the bytes are the program's own.
var builtin = sync.OnceValues(func() (Table, error) { return ParseTable(tableFile) })

// Builtin gives the table shipped with this program.
func Builtin() (Table, error) { return builtin() }

// ParseTable reads a table. It refuses unknown and repeated keys, a processor named twice, a processor that no pinned
// root speaks for, a part of a floor that is not written down, and a value without its source.
func ParseTable(data []byte) (Table, error) {
	if len(data) > maxTableBytes {
		return Table{}, fmt.Errorf("reading TCB table: more than %d bytes", maxTableBytes)
	}
	var file struct {
		Schema     string    `json:"schema"`
		Date       string    `json:"date"`
		Processors []rowJSON `json:"processors"`
	}
	if err := strict.Decode(data, &file); err != nil {
		return Table{}, fmt.Errorf("reading TCB table: %w", err)
	}
	if file.Schema != TableSchema {
		return Table{}, fmt.Errorf("reading TCB table: schema %s, want %s", quote(file.Schema), TableSchema)
	}
	if _, err := time.Parse(time.DateOnly, file.Date); err != nil {
		return Table{}, fmt.Errorf("reading TCB table: date %s, want YYYY-MM-DD", quote(file.Date))
	}
	if n := len(file.Processors); n == 0 || n > maxTableRows {
		return Table{}, fmt.Errorf("reading TCB table: %d processors, want 1 to %d", n, maxTableRows)
	}
	t := Table{date: file.Date, rows: make(map[CPU]Row, len(file.Processors))}
	for i, r := range file.Processors {
		cpu, row, err := r.read()
		if err != nil {
			return Table{}, fmt.Errorf("reading processor %d of the TCB table: %w", i+1, err)
		}
		if _, twice := t.rows[cpu]; twice {
			return Table{}, fmt.Errorf("reading processor %d of the TCB table: %s a second time", i+1, cpu)
		}
		t.rows[cpu] = row
	}
	return t, nil
}

func (r rowJSON) read() (CPU, Row, error) {
	if r.Family == nil || r.Model == nil || r.Stepping == nil {
		return CPU{}, Row{}, fmt.Errorf("family, model and stepping are wanted")
	}
	cpu := CPU{Family: *r.Family, Model: *r.Model, Stepping: *r.Stepping}
	if cpu.line() == "" {
		return CPU{}, Row{}, fmt.Errorf("%s is of no known product line", cpu)
	}
	for _, s := range []string{r.Name, r.Source, r.StrictSource, r.SiblingsSource} {
		if len(s) > maxTableText {
			return CPU{}, Row{}, fmt.Errorf("a text of more than %d bytes", maxTableText)
		}
	}
	if r.Name == "" || r.Source == "" || (r.Strict == nil) != (r.StrictSource == "") || (r.Siblings == nil) != (r.SiblingsSource == "") {
		return CPU{}, Row{}, fmt.Errorf("%s: a name, and exactly one source for each value, are wanted", cpu)
	}
	row := Row{Name: r.Name, Source: r.Source}
	var err error
	if row.Floor, err = r.Floor.read(); err != nil {
		return CPU{}, Row{}, fmt.Errorf("%s: floor: %w", cpu, err)
	}
	row.Strict = row.Floor
	if r.Strict != nil {
		if row.Strict, err = r.Strict.read(); err != nil {
			return CPU{}, Row{}, fmt.Errorf("%s: strict: %w", cpu, err)
		}
		row.Source += "; strict: " + r.StrictSource
	}
	if !row.Strict.AtLeast(row.Floor) {
		return CPU{}, Row{}, fmt.Errorf("%s: strict is below the floor", cpu)
	}
	if r.Siblings != nil {
		if *r.Siblings == 0 {
			return CPU{}, Row{}, fmt.Errorf("%s: siblings: a microcode version is wanted", cpu)
		}
		row.Siblings = *r.Siblings
		row.Source += "; siblings: " + r.SiblingsSource
	}
	return cpu, row, nil
}

func (t *tcbJSON) read() (TCB, error) {
	if t == nil || t.FMC == nil || t.Bootloader == nil || t.TEE == nil || t.SNP == nil || t.Microcode == nil {
		return TCB{}, fmt.Errorf("fmc, bootloader, tee, snp and microcode are wanted")
	}
	return TCB{FMC: *t.FMC, Bootloader: *t.Bootloader, TEE: *t.TEE, SNP: *t.SNP, Microcode: *t.Microcode}, nil
}

// Date is the day, as YYYY-MM-DD, that the table was last compared with its sources; "" for the zero Table.
func (t Table) Date() string { return t.date }

// Row gives what the table says of a processor, and whether it says anything.
func (t Table) Row(c CPU) (Row, bool) {
	r, ok := t.rows[c]
	return r, ok
}

// Processors lists the processors of the table by family, model and stepping.
func (t Table) Processors() []CPU {
	out := make([]CPU, 0, len(t.rows))
	for c := range t.rows {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b CPU) int {
		key := func(c CPU) int { return int(c.Family)<<16 | int(c.Model)<<8 | int(c.Stepping) }
		return key(a) - key(b)
	})
	return out
}

// Raise gives a table that asks for at least what either asks for: of each part the higher value, of each processor
// that only one of them knows that one's row. It cannot lower a floor. A processor that only by knows is accepted from
// then on, because somebody wrote its floor down. The date is that of the younger table.
func (t Table) Raise(by Table) Table {
	out := Table{date: max(t.date, by.date), rows: make(map[CPU]Row, len(t.rows)+len(by.rows))}
	for c, r := range by.rows {
		out.rows[c] = r
	}
	for c, r := range t.rows {
		other, both := by.rows[c]
		if !both {
			out.rows[c] = r
			continue
		}
		r.Floor, r.Strict = r.Floor.higher(other.Floor), r.Strict.higher(other.Strict)
		if r.Siblings != 0 { // none known is the strictest: only switched off siblings will do
			r.Siblings = max(r.Siblings, other.Siblings)
		}
		r.Source += "; raised: " + other.Source
		out.rows[c] = r
	}
	return out
}

// higher gives the higher value of each part.
func (t TCB) higher(o TCB) TCB {
	return TCB{
		FMC: max(t.FMC, o.FMC), Bootloader: max(t.Bootloader, o.Bootloader), TEE: max(t.TEE, o.TEE),
		SNP: max(t.SNP, o.SNP), Microcode: max(t.Microcode, o.Microcode),
	}
}
