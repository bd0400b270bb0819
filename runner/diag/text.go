// SPDX-License-Identifier: Apache-2.0

package diag

import "fmt"

// margin is how many bytes beyond what is shown of a cut text are looked at, so that a secret that lies across the cut is
// masked on both sides of it. No form of a secret is longer.
const margin = 128 << 10

// text is what is known of a source: its beginning and its end. The two are the same when all of it is known.
type text struct {
	size       int64
	head, tail []byte
}

func whole(data []byte) text { return text{size: int64(len(data)), head: data, tail: data} }

func (t text) isWhole() bool { return int64(len(t.head)) == t.size && int64(len(t.tail)) == t.size }

// split says how much is shown of the beginning and of the end of a text that is too long for most bytes.
func split(most int64) (head, tail int64) { return most / 4, most - most/4 }

// cut masks a text and gives at most most bytes of it, how many bytes of the text were left out, and how often something
// was masked.
func (m *Masker) cut(t text, most int64) (data []byte, left int64, masked int) {
	if t.isWhole() && t.size <= most {
		data, masked = m.window(t.head, 0, len(t.head))
		return bound(data, most), 0, masked
	}
	head, tail := split(most)
	head = min(head, max(0, int64(len(t.head))-margin))
	tail = min(tail, max(0, int64(len(t.tail))-margin))
	if t.isWhole() { // there is no other side to be careful of
		head, tail = split(most)
	}
	from := int64(len(t.tail)) - tail
	first, n := m.window(t.head[:min(int64(len(t.head)), head+margin)], 0, int(head))
	last, k := m.window(t.tail[max(0, from-margin):], int(min(from, margin)), len(t.tail))
	left = t.size - head - tail
	note := fmt.Sprintf("\n[kettle: %d bytes were left out here]\n", left)
	// What masking made longer goes from the beginning: the end of a log says more.
	first = bound(first, max(0, most-int64(len(note)+len(last))))
	return bound(append(append(first, note...), last...), most), left, n + k
}

func bound(data []byte, most int64) []byte { return data[:min(int64(len(data)), most)] }
