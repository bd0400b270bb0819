// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A request is for the host that the connection was made to, the first one and each that follows.
func TestAttackRequest(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const host, other = "host.request.test", "other.request.test"
	w.listen(w.host(t, host), 80, webServer("host"))
	w.listen(w.host(t, other), 80, webServer("other"))
	good := "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
	for name, tc := range map[string]struct {
		send   string
		good   int // answers of the host before the refusal
		status string
		reason Reason // empty: refused before it is a request
	}{
		"another host":         {"GET / HTTP/1.1\r\nHost: " + other + "\r\n\r\n", 0, "421 ", OtherHost},
		"no host":              {"GET / HTTP/1.0\r\n\r\n", 0, "421 ", OtherHost},
		"no host at all":       {"GET / HTTP/1.1\r\n\r\n", 0, "400 ", ""},
		"two hosts":            {"GET / HTTP/1.1\r\nHost: " + host + "\r\nHost: " + other + "\r\n\r\n", 0, "400 ", ""},
		"another port":         {"GET / HTTP/1.1\r\nHost: " + host + ":8080\r\n\r\n", 0, "421 ", OtherHost},
		"final dot":            {"GET / HTTP/1.1\r\nHost: " + host + ".\r\n\r\n", 0, "421 ", OtherHost},
		"an address":           {"GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n", 0, "421 ", OtherHost},
		"a user":               {"GET / HTTP/1.1\r\nHost: " + host + "@" + other + "\r\n\r\n", 0, "400 ", ""},
		"absolute":             {"GET http://" + other + "/ HTTP/1.1\r\nHost: " + host + "\r\n\r\n", 0, "421 ", OtherHost},
		"absolute with a user": {"GET http://" + host + "@" + other + "/ HTTP/1.1\r\nHost: " + host + "\r\n\r\n", 0, "421 ", OtherHost},
		"absolute TLS":         {"GET https://" + host + "/ HTTP/1.1\r\nHost: " + host + "\r\n\r\n", 0, "400 ", NoRequest},
		"CONNECT":              {"CONNECT " + other + ":443 HTTP/1.1\r\nHost: " + host + "\r\n\r\n", 0, "501 ", Tunnel},
		"CONNECT to the host":  {"CONNECT " + host + ":80 HTTP/1.1\r\nHost: " + host + "\r\n\r\n", 0, "501 ", Tunnel},
		"upgrade":              {"GET / HTTP/1.1\r\nHost: " + host + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 0, "501 ", Tunnel},
		"upgrade to HTTP/2":    {"GET / HTTP/1.1\r\nHost: " + host + "\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", 0, "501 ", Tunnel},
		"second request":       {good + "GET / HTTP/1.1\r\nHost: " + other + "\r\n\r\n", 1, "421 ", OtherHost},
		"third request":        {good + good + "GET http://" + other + "/ HTTP/1.1\r\nHost: " + host + "\r\n\r\n", 2, "421 ", OtherHost},
		"behind a body": {"POST / HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: " + other + "\r\n\r\n",
			1, "421 ", OtherHost},
		"two lengths":      {"POST / HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 4\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\nHost: " + other + "\r\n\r\n", 0, "400 ", ""},
		"odd encoding":     {"POST / HTTP/1.1\r\nHost: " + host + "\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 0, "501 ", ""},
		"folded header":    {"GET / HTTP/1.1\r\nX: a\r\n Host: " + other + "\r\nHost: " + host + "\r\nHost : " + other + "\r\n\r\n", 0, "400 ", ""},
		"line in the host": {"GET / HTTP/1.1\r\nHost: " + host + "\rHost: " + other + "\r\n\r\n", 0, "400 ", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := allowWeb(t, host)
			got, err := asks(s.reach(host, 80), tc.send, tc.good+1)
			if err != nil || len(got) != tc.good+1 || !strings.HasPrefix(got[tc.good], tc.status) {
				t.Fatalf("got %q, %v", got, err)
			}
			for _, answer := range got[:tc.good] {
				if !strings.HasPrefix(answer, "200 host: ") {
					t.Errorf("got %q", answer)
				}
			}
			if strings.Contains(strings.Join(got, "\n"), "other: ") {
				t.Errorf("the other host was reached: %q", got)
			}
			var reasons []Reason
			for _, v := range s.gate.Verdicts() {
				if !v.Allowed {
					reasons = append(reasons, v.Reason)
				}
			}
			if tc.reason != "" && (len(reasons) != 1 || reasons[0] != tc.reason) || tc.reason == "" && len(reasons) > 0 {
				t.Errorf("got %q", reasons)
			}
		})
	}
}

// What goes on to the host is made by the gate: it is one request with the host's own name, whatever a lenient server
// might have read in it.
func TestAttackSmuggle(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const host = "host.smuggle.test"
	seen := make(chan string, 1)
	w.listen(w.host(t, host), 80, func(c net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		body, _ := io.ReadAll(req.Body)
		seen <- strings.Join(append([]string{req.Host, string(body)}, req.TransferEncoding...), "|")
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	s := allowWeb(t, host)
	inner := "GET / HTTP/1.1\r\nHost: other.smuggle.test\r\n\r\n"
	send := "POST http://HOST.smuggle.test/ HTTP/1.1\r\nHost: other.smuggle.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nX-Forwarded-Host: other.smuggle.test\r\n\r\n31\r\n" +
		inner + strings.Repeat(" ", 0x31-len(inner)) + "\r\n0\r\n\r\n"
	if _, err := asks(s.reach(host, 80), send, 1); err != nil {
		t.Fatal(err)
	}
	if got, want := <-seen, host+"|"+inner+strings.Repeat(" ", 0x31-len(inner))+"|chunked"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A host that is in league with the job cannot turn a request into a tunnel.
func TestAttackSwitchingHost(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	for name, answer := range map[string]string{
		"bare":      "HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"websocket": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		host := name + ".switching.test"
		tunnel := make(chan bool, 1)
		w.listen(w.host(t, host), 80, func(c net.Conn) {
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			r := bufio.NewReader(c)
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			_, _ = io.WriteString(c, answer)
			got, _ := r.ReadString('!')
			tunnel <- got == "anything!"
		})
		s := allowWeb(t, host)
		conn := s.reach(host, 80)
		if got, err := asks(conn, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n", 1); err != nil || got[0] != "502 " {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		_, _ = io.WriteString(conn, "anything!")
		if <-tunnel {
			t.Errorf("%s: there is a tunnel", name)
		}
	}
}

// In the mode audit too a request is for the host that was looked up.
func TestAttackAuditedRequest(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const host = "host.auditedrequest.test"
	a := w.host(t, host)
	w.listen(a, 8000, webServer("host"))
	s := audited(t, "pinned.auditedrequest.test")
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n", "CONNECT other.test:443 HTTP/1.1\r\nHost: " + host + ":8000\r\n\r\n"} {
		if got, err := asks(s.reach(host, 8000), request, 1); err != nil || strings.HasPrefix(got[0], "200") {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if w.was(a) {
		t.Error("it was reached")
	}
}
