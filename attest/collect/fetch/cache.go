// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/kettle/attest/internal/strict"
)

const (
	maxMemory = 256      // documents
	maxFile   = 24 << 20 // a document of 16 MiB in base64, and its headers
)

// Entry is a document and the time until which it may be used without asking again.
type Entry struct {
	Document
	Until time.Time
}

// Cache keeps documents by address. A cache forgets what it cannot keep; it has no errors.
type Cache interface {
	// Get gives the entry of an address, however old.
	Get(url string) (Entry, bool)
	// Put keeps an entry in place of an older one.
	Put(url string, e Entry)
}

// Memory is a cache in memory, of at most 256 documents. It is safe for concurrent use.
type Memory struct {
	mu      sync.Mutex
	entries map[string]Entry // guarded by mu
}

// NewMemory makes an empty cache.
func NewMemory() *Memory { return &Memory{entries: map[string]Entry{}} }

// Get implements [Cache].
func (m *Memory) Get(url string) (Entry, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[url]
	return e, ok
}

// Put implements [Cache]. A full cache drops the entry that ends first.
func (m *Memory) Put(url string, e Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.entries[url]; !there && len(m.entries) >= maxMemory {
		var first string
		for u, other := range m.entries {
			if first == "" || other.Until.Before(m.entries[first].Until) {
				first = u
			}
		}
		delete(m.entries, first)
	}
	m.entries[url] = e
}

// Dir is a cache in a folder, one file a document, shared by all who open the same folder. Files that do not read back
// as this version writes them are as good as absent.
type Dir struct{ root *os.Root }

// OpenDir opens a folder, which has to exist. The caller closes the cache.
func OpenDir(dir string) (*Dir, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the cache: %w", err)
	}
	return &Dir{root}, nil
}

// Close closes the folder.
func (d *Dir) Close() error { return d.root.Close() }

// file is what one file holds.
type file struct {
	V      int               `json:"v"`
	URL    string            `json:"url"`
	Until  time.Time         `json:"until"`
	Header map[string]string `json:"header"`
	Body   []byte            `json:"body"`
}

// Get implements [Cache].
func (d *Dir) Get(url string) (Entry, bool) {
	f, err := d.root.Open(fileName(url))
	if err != nil {
		return Entry{}, false
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil || len(data) > maxFile {
		return Entry{}, false
	}
	var e file
	if strict.Decode(data, &e) != nil || e.V != 1 || e.URL != url {
		return Entry{}, false
	}
	return Entry{Document{e.Body, e.Header}, e.Until}, true
}

// Put implements [Cache]. The file appears whole or not at all.
func (d *Dir) Put(url string, e Entry) {
	data, err := json.Marshal(file{V: 1, URL: url, Until: e.Until, Header: e.Header, Body: e.Body})
	if err != nil || len(data) > maxFile {
		return
	}
	name := fileName(url)
	sum := sha256.Sum256(data)
	temporary := name + "." + hex.EncodeToString(sum[:8]) // two writers of one file write the same bytes
	if d.root.WriteFile(temporary, data, 0o600) != nil || d.root.Rename(temporary, name) != nil {
		_ = d.root.Remove(temporary)
	}
}

func fileName(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:]) + ".json"
}
