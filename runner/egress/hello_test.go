// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
)

// FuzzClientHello: whatever a client sends, peek ends, names only a host name, and loses no byte.
func FuzzClientHello(f *testing.F) {
	f.Add(helloBytes(f, "github.demo.test"))
	f.Add(helloBytes(f, ""))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 3})
	f.Fuzz(func(t *testing.T, sent []byte) {
		name, read, err := peek(t.Context(), &oneWay{Reader: bytes.NewReader(sent)})
		if err != nil {
			var denied deniedError
			if !errors.As(err, &denied) || name != "" || read != nil {
				t.Fatalf("got %q, %d bytes, %v", name, len(read), err)
			}
			return
		}
		if !hostPattern.MatchString(name) || len(name) > maxName || !bytes.HasPrefix(sent, read) || len(read) > maxHello {
			t.Fatalf("got %q and %d bytes", name, len(read))
		}
	})
}

// oneWay is a connection that only says what was recorded; writing to it is a fault.
type oneWay struct {
	io.Reader
	net.Conn
}

func (o *oneWay) Read(p []byte) (int, error) { return o.Reader.Read(p) }

// BenchmarkSplice measures what one connection carries, TLS included at both ends.
func BenchmarkSplice(b *testing.B) {
	const size = 64 << 20
	out, pool := server(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		block := make([]byte, 1<<20)
		for range size >> 20 {
			_, _ = w.Write(block)
		}
	}))
	_, ns := open(b, config(out))
	c := client(ns, pool)
	b.SetBytes(size)
	for b.Loop() {
		resp, err := c.Get("https://github.demo.test/") //nolint:noctx // the client has a deadline.
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		if err != nil || n != size {
			b.Fatal(n, err)
		}
		_ = resp.Body.Close()
	}
}
