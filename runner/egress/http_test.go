// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// webServer is an HTTP server of the world that says which requests it gets.
func webServer(name string) func(net.Conn) {
	return func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			said := fmt.Sprintf("%s: %s %s of %s%s", name, req.Method, req.RequestURI, req.Host, body)
			if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(said), said); err != nil {
				return
			}
		}
	}
}

// asks sends requests and reads n answers.
func asks(conn net.Conn, requests string, n int) (said []string, err error) {
	if _, err := io.WriteString(conn, requests); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	for range n {
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			return said, err
		}
		body, err := io.ReadAll(answer.Body)
		if err = errors.Join(err, answer.Body.Close()); err != nil {
			return said, err
		}
		said = append(said, fmt.Sprintf("%d %s", answer.StatusCode, body))
	}
	return said, nil
}

// allowWeb is a sandbox that may reach one host by HTTP on ports 80 and 8080.
func allowWeb(t *testing.T, host string) *sandbox {
	t.Helper()
	s := start(t, config("pinned."+host, After{Mode: Allow, Allow: []Entry{{Host: host, Ports: []uint16{80, 8080}, Protocol: HTTP}}}))
	s.gate.Dispatched()
	return s
}

func TestRequests(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const host = "requests.http.test"
	a := w.host(t, host)
	w.listen(a, 80, webServer("80"))
	w.listen(a, 8080, webServer("8080"))
	s := allowWeb(t, host)
	for name, tc := range map[string]struct {
		port          uint16
		request, want string
	}{
		"plain":             {80, "GET /a HTTP/1.1\r\nHost: " + host + "\r\n\r\n", "80: GET /a of " + host},
		"with a port":       {80, "GET / HTTP/1.1\r\nHost: " + host + ":80\r\n\r\n", "80: GET / of " + host},
		"upper case":        {80, "GET / HTTP/1.1\r\nHost: Requests.HTTP.test\r\n\r\n", "80: GET / of " + host},
		"another port":      {8080, "GET / HTTP/1.1\r\nHost: " + host + ":8080\r\n\r\n", "8080: GET / of " + host + ":8080"},
		"body":              {80, "POST /b HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 3\r\n\r\nxyz", "80: POST /b of " + host + "xyz"},
		"chunks":            {80, "PUT /c HTTP/1.1\r\nHost: " + host + "\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n", "80: PUT /c of " + host + "xyz"},
		"absolute":          {80, "GET http://" + host + "/d HTTP/1.1\r\nHost: other.test\r\n\r\n", "80: GET /d of " + host},
		"escaped":           {80, "GET /%2e%2e/%2F?q=%zz;x HTTP/1.1\r\nHost: " + host + "\r\n\r\n", "80: GET /%2e%2e/%2F?q=%zz;x of " + host},
		"version 1.0":       {80, "GET / HTTP/1.0\r\nHost: " + host + "\r\n\r\n", "80: GET / of " + host},
		"foreign forwarder": {80, "GET / HTTP/1.1\r\nHost: " + host + "\r\nForwarded: host=other.test\r\nProxy-Connection: keep-alive\r\n\r\n", "80: GET / of " + host},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := asks(s.reach(host, tc.port), tc.request, 1); err != nil || got[0] != "200 "+tc.want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// Many requests follow each other through one connection.
func TestRequestsInARow(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const host, n = "row.http.test", 20
	w.listen(w.host(t, host), 80, webServer("row"))
	s := allowWeb(t, host)
	sent := strings.Repeat("GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n", n)
	got, err := asks(s.reach(host, 80), sent, n)
	if err != nil || strings.Count(strings.Join(got, "\n"), "200 row: GET / of "+host) != n {
		t.Errorf("got %q, %v", got, err)
	}
	if v := s.one(host); v.Connections != 1 || v.Sent != uint64(len(sent)) || v.Received < uint64(n*len(got[0])) {
		t.Errorf("got %+v", v)
	}
}

func TestNoWebServer(t *testing.T) {
	t.Parallel()
	theWorld(t)
	const host = "absent.http.test"
	s := allowWeb(t, host)
	got, err := asks(s.reach(host, 80), "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n", 1)
	if err != nil || got[0] != "502 " {
		t.Errorf("got %q, %v", got, err)
	}
	eventually(t, func() bool {
		for _, v := range s.gate.Verdicts() {
			if v.Host == host && v.Reason == Unreachable {
				return true
			}
		}
		return false
	})
}
