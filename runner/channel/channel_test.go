// SPDX-License-Identifier: Apache-2.0

package channel_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/channel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair gives both ends of a stream that closes with the test.
func pair(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() {
		_ = a.Close()
		_ = b.Close()
	})
	return a, b
}

const (
	prefix     = "kettle-0123456789abcdef"
	goodStatus = `{"v":2,"type":"status","state":"boot","sinceMs":0,"elapsedMs":0,"runner":{"id":0,"name":""},"jobs":0,"responses":0,"alarms":[]}`
)

var manyAlarms = `"a` + strings.Join(strings.Split("abcdefghijklmnopqrstuvwxyz0123456789", ""), `","a`) + `"`

func status() channel.Status {
	return channel.Status{
		State: "listening", Since: 900 * time.Millisecond, Elapsed: 3 * time.Second,
		Runner: channel.Runner{ID: 21, Name: prefix + "-01234567"}, Alarms: []channel.Alarm{channel.SinkDown},
	}
}

func frame(body string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func TestConversation(t *testing.T) {
	t.Parallel()
	inside, outside := pair(t)
	guest, launcher := channel.NewGuest(inside), channel.NewLauncher(outside)
	said := []channel.Message{
		channel.Hello{Program: "kettled"},
		channel.Phase{Name: "register", Elapsed: 1500 * time.Millisecond},
		channel.Phase{Name: "listening", Elapsed: 2100 * time.Millisecond},
		channel.Journal{Seq: 0, Line: `{"seq":0,"state":"boot"}`},
		status(),
		channel.Journal{Seq: 1, Line: `{"seq":1,"state":"listening","reason":"a < b & é 世"}`},
		channel.End{Outcome: "The job succeeded."},
	}
	failed := make(chan error, 1)
	go func() {
		failed <- func() error {
			if err := guest.Send(t.Context(), said[0]); err != nil {
				return err
			}
			credential, err := guest.Credential(t.Context())
			if err != nil {
				return err
			}
			if credential.Reveal() != "ghp_secret" {
				return errors.New("another credential came out")
			}
			for _, m := range said[1:] {
				if err := guest.Send(t.Context(), m); err != nil {
					return err
				}
			}
			return inside.Close()
		}()
	}()
	var heard []channel.Message
	for {
		m, err := launcher.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		heard = append(heard, m)
		if len(heard) == 1 {
			if err := launcher.SendCredential(t.Context(), secret.New("ghp_secret")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := <-failed; err != nil {
		t.Error(err)
	}
	if !reflect.DeepEqual(heard, said) {
		t.Errorf("want %v, got %v", said, heard)
	}
}

// TestWireGolden fixes the bytes on the wire.
func TestWireGolden(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		message channel.Message
		want    string
	}{
		"hello":   {channel.Hello{Program: "kettled"}, `{"v":2,"type":"hello","program":"kettled"}`},
		"phase":   {channel.Phase{Name: "run", Elapsed: 2100 * time.Millisecond}, `{"v":2,"type":"phase","name":"run","elapsedMs":2100}`},
		"end":     {channel.End{Outcome: "Done."}, `{"v":2,"type":"end","outcome":"Done."}`},
		"journal": {channel.Journal{Seq: 0, Line: `{"seq":0}`}, `{"v":2,"type":"journal","seq":0,"line":"{\"seq\":0}"}`},
		"status": {status(), `{"v":2,"type":"status","state":"listening","sinceMs":900,"elapsedMs":3000,` +
			`"runner":{"id":21,"name":"kettle-0123456789abcdef-01234567"},"jobs":0,"responses":0,"alarms":["sink-down"]}`},
		"quiet status": {channel.Status{State: "boot"}, `{"v":2,"type":"status","state":"boot","sinceMs":0,"elapsedMs":0,` +
			`"runner":{"id":0,"name":""},"jobs":0,"responses":0,"alarms":[]}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inside, outside := pair(t)
			go func() { _ = channel.NewGuest(inside).Send(t.Context(), tt.message) }()
			got := make([]byte, 4+len(tt.want))
			if _, err := io.ReadFull(outside, got); err != nil {
				t.Fatal(err)
			}
			if want := frame(tt.want); !bytes.Equal(got, want) {
				t.Errorf("want %q, got %q", want, got)
			}
		})
	}
}

func TestLauncherRefuses(t *testing.T) {
	t.Parallel()
	const hello = `{"v":2,"type":"hello","program":"kettled"}`
	tests := map[string][]byte{
		"no hello first":       frame(`{"v":2,"type":"phase","name":"run","elapsedMs":1}`),
		"hello twice":          append(frame(hello), frame(hello)...),
		"after the end":        bytes.Join([][]byte{frame(hello), frame(`{"v":2,"type":"end","outcome":"x"}`), frame(`{"v":2,"type":"end","outcome":"x"}`)}, nil),
		"empty frame":          frame(""),
		"frame too long":       {0, 1, 0, 1},
		"cut header":           {0, 0},
		"cut body":             frame(hello)[:20],
		"no JSON":              frame("hello"),
		"an array":             frame("[]"),
		"null":                 frame("null"),
		"two objects":          frame(hello + hello),
		"unknown field":        frame(`{"v":2,"type":"hello","program":"kettled","x":1}`),
		"other version":        frame(`{"v":1,"type":"hello","program":"kettled"}`),
		"no version":           frame(`{"type":"hello","program":"kettled"}`),
		"unknown type":         frame(`{"v":2,"type":"bye"}`),
		"field of another":     frame(`{"v":2,"type":"hello","program":"kettled","outcome":"x"}`),
		"field missing":        frame(`{"v":2,"type":"hello"}`),
		"wrong type":           frame(`{"v":2,"type":"hello","program":7}`),
		"empty program":        frame(`{"v":2,"type":"hello","program":""}`),
		"escape in program":    frame(`{"v":2,"type":"hello","program":"\u001b[2J"}`),
		"long program":         frame(`{"v":2,"type":"hello","program":"` + strings.Repeat("a", 65) + `"}`),
		"negative time":        append(frame(hello), frame(`{"v":2,"type":"phase","name":"run","elapsedMs":-1}`)...),
		"overflowing time":     append(frame(hello), frame(`{"v":2,"type":"phase","name":"run","elapsedMs":9223372036854775807}`)...),
		"empty outcome":        append(frame(hello), frame(`{"v":2,"type":"end","outcome":""}`)...),
		"newline in outcome":   append(frame(hello), frame(`{"v":2,"type":"end","outcome":"a\nb"}`)...),
		"long outcome":         append(frame(hello), frame(`{"v":2,"type":"end","outcome":"`+strings.Repeat("a", 1001)+`"}`)...),
		"credential by guest":  append(frame(hello), frame(`{"v":2,"type":"credential","credential":"x"}`)...),
		"end of stream, early": frame(hello),
		"key twice":            frame(`{"v":2,"type":"hello","program":"kettled","program":"kettled"}`),
		"key in two cases":     frame(`{"v":2,"type":"hello","program":"kettled","Program":"other"}`),
		"drain by guest":       append(frame(hello), frame(`{"v":2,"type":"drain"}`)...),
		"journal, no seq":      append(frame(hello), frame(`{"v":2,"type":"journal","line":"{}"}`)...),
		"journal, gap":         append(frame(hello), frame(`{"v":2,"type":"journal","seq":1,"line":"{}"}`)...),
		"journal, twice":       bytes.Join([][]byte{frame(hello), frame(`{"v":2,"type":"journal","seq":0,"line":"{}"}`), frame(`{"v":2,"type":"journal","seq":0,"line":"{}"}`)}, nil),
		"journal, negative":    append(frame(hello), frame(`{"v":2,"type":"journal","seq":-1,"line":"{}"}`)...),
		"journal, empty":       append(frame(hello), frame(`{"v":2,"type":"journal","seq":0,"line":""}`)...),
		"journal, two lines":   append(frame(hello), frame(`{"v":2,"type":"journal","seq":0,"line":"{}\n{}"}`)...),
		"journal, escape":      append(frame(hello), frame(`{"v":2,"type":"journal","seq":0,"line":"\u001b[2J"}`)...),
		"journal, bidi":        append(frame(hello), frame(`{"v":2,"type":"journal","seq":0,"line":"\u202e"}`)...),
		"journal, too long":    append(frame(hello), frame(`{"v":2,"type":"journal","seq":0,"line":"`+strings.Repeat("a", channel.MaxLine+1)+`"}`)...),
		"status, no alarms":    append(frame(hello), frame(`{"v":2,"type":"status","state":"boot","sinceMs":0,"elapsedMs":0,"runner":{"id":0,"name":""},"jobs":0,"responses":0}`)...),
		"status, null":         append(frame(hello), frame(strings.Replace(goodStatus, `{"id":0,"name":""}`, `null`, 1))...),
		"status, half runner":  append(frame(hello), frame(strings.Replace(goodStatus, `,"name":""`, ``, 1))...),
		"status, bad runner":   append(frame(hello), frame(strings.Replace(goodStatus, `"name":""`, `"name":"a/../b"`, 1))...),
		"status, id alone":     append(frame(hello), frame(strings.Replace(goodStatus, `"id":0`, `"id":7`, 1))...),
		"status, negative id":  append(frame(hello), frame(strings.Replace(goodStatus, `"id":0,"name":""`, `"id":-7,"name":"a"`, 1))...),
		"status, long name":    append(frame(hello), frame(strings.Replace(goodStatus, `"name":""`, `"name":"`+strings.Repeat("a", 65)+`"`, 1))...),
		"status, two jobs":     append(frame(hello), frame(strings.Replace(goodStatus, `"jobs":0`, `"jobs":2`, 1))...),
		"status, responses":    append(frame(hello), frame(strings.Replace(goodStatus, `"responses":0`, `"responses":1000001`, 1))...),
		"status, state":        append(frame(hello), frame(strings.Replace(goodStatus, `"boot"`, `"Boot"`, 1))...),
		"status, time":         append(frame(hello), frame(strings.Replace(goodStatus, `"sinceMs":0`, `"sinceMs":-1`, 1))...),
		"status, eternity":     append(frame(hello), frame(strings.Replace(goodStatus, `"elapsedMs":0`, `"elapsedMs":31536000001`, 1))...),
		"status, alarm twice":  append(frame(hello), frame(strings.Replace(goodStatus, `[]`, `["sink-down","sink-down"]`, 1))...),
		"status, alarm's word": append(frame(hello), frame(strings.Replace(goodStatus, `[]`, `["sink\"down"]`, 1))...),
		"status, many alarms":  append(frame(hello), frame(strings.Replace(goodStatus, `[]`, `[`+manyAlarms+`]`, 1))...),
	}
	for name, sent := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inside, outside := pair(t)
			go func() {
				_, _ = inside.Write(sent)
				_ = inside.Close()
			}()
			launcher := channel.NewLauncher(outside)
			var err error
			for err == nil {
				_, err = launcher.Next(t.Context())
			}
			if errors.Is(err, io.EOF) || !errors.Is(err, channel.ErrProtocol) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("want a refusal, got %v", err)
			}
		})
	}
}

func TestGuestRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"empty":         `{"v":2,"type":"credential","credential":""}`,
		"absent":        `{"v":2,"type":"credential"}`,
		"other type":    `{"v":2,"type":"hello","program":"x"}`,
		"unknown field": `{"v":2,"type":"credential","credential":"ghp_secret","for":"me"}`,
		"broken":        `{"v":2,"type":"credential","credential":"ghp_secret`,
		"key twice":     `{"v":2,"type":"credential","credential":"a","credential":"ghp_secret"}`,
		"bad prefix":    `{"v":2,"type":"credential","credential":"ghp_secret","prefix":"kettle-0123"}`,
		"long prefix":   `{"v":2,"type":"credential","credential":"ghp_secret","prefix":"kettle-0123456789abcdef0"}`,
		"empty prefix":  `{"v":2,"type":"credential","credential":"ghp_secret","prefix":""}`,
		"foreign":       `{"v":2,"type":"credential","credential":"ghp_secret","prefix":"victim-0123456789abcdef"}`,
		"old version":   `{"v":1,"type":"credential","credential":"ghp_secret","prefix":"kettle-0123456789abcdef"}`,
		"drain":         `{"v":2,"type":"drain"}`,
		"too long":      `{"v":2,"type":"credential","credential":"` + strings.Repeat("ghp_secret", 4000) + `"}`,
	}
	for name, body := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inside, outside := pair(t)
			go func() { _, _ = outside.Write(frame(body)) }()
			got, err := channel.NewGuest(inside).Credential(t.Context())
			if !errors.Is(err, channel.ErrProtocol) || !got.Empty() {
				t.Errorf("want a refusal, got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "ghp_secret") {
				t.Errorf("the error tells the credential: %v", err)
			}
			go func() { _, _ = outside.Write(frame(body)) }()
			admission, err := channel.NewGuest(inside).Admission(t.Context())
			if !errors.Is(err, channel.ErrProtocol) || !admission.Credential.Empty() || admission.Prefix != "" {
				t.Errorf("want a refusal, got %v", err)
			}
		})
	}
}

func TestSendRefuses(t *testing.T) {
	t.Parallel()
	inside, outside := pair(t)
	guest := channel.NewGuest(inside)
	for name, m := range map[string]channel.Message{
		"hello":      channel.Hello{Program: "Two Words"},
		"phase":      channel.Phase{Name: ""},
		"old phase":  channel.Phase{Name: "run", Elapsed: -1},
		"end":        channel.End{Outcome: "a\x1b"},
		"end, text":  channel.End{Outcome: "\xff"},
		"line":       channel.Journal{Seq: 0, Line: "a\nb"},
		"later line": channel.Journal{Seq: 1, Line: "{}"},
		"status":     channel.Status{State: "boot", Jobs: 2},
	} {
		if err := guest.Send(t.Context(), m); !errors.Is(err, channel.ErrProtocol) {
			t.Errorf("%s: want a refusal, got %v", name, err)
		}
	}
	if err := channel.NewLauncher(outside).SendCredential(t.Context(), secret.String{}); err == nil {
		t.Error("an empty credential was sent")
	}
	for name, a := range map[string]channel.Admission{
		"credential alone": {Credential: secret.New("")}, "no prefix": {Credential: secret.New("x")}, "zero": {},
		"upper case": {Credential: secret.New("x"), Prefix: "kettle-0123456789ABCDEF"},
	} {
		if err := channel.NewLauncher(outside).Admit(t.Context(), a); !errors.Is(err, channel.ErrProtocol) {
			t.Errorf("%s: want a refusal, got %v", name, err)
		}
	}
	if err := channel.NewLauncher(outside).Drain(t.Context()); !errors.Is(err, channel.ErrProtocol) {
		t.Errorf("drain before the credential: %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	inside, outside := pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := channel.NewGuest(inside).Credential(ctx); !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a silent launcher: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := channel.NewLauncher(outside).Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for a silent guest: %v", err)
	}
	if err := channel.NewGuest(inside).Send(ctx, channel.End{Outcome: "late"}); !errors.Is(err, context.Canceled) {
		t.Errorf("sending too late: %v", err)
	}
	// A deadline that has passed must not hang on: the next call sets its own.
	go func() { _ = channel.NewGuest(inside).Send(t.Context(), channel.Hello{Program: "kettled"}) }()
	if _, err := channel.NewLauncher(outside).Next(t.Context()); err != nil {
		t.Errorf("after a cancelled wait: %v", err)
	}
}

// conversation is a stream that was recorded.
type conversation struct{ io.Reader }

func (conversation) Write(p []byte) (int, error)      { return len(p), nil }
func (conversation) SetReadDeadline(time.Time) error  { return nil }
func (conversation) SetWriteDeadline(time.Time) error { return nil }

func FuzzNext(f *testing.F) {
	f.Add(append(frame(`{"v":2,"type":"hello","program":"kettled"}`), frame(`{"v":2,"type":"end","outcome":"Done."}`)...))
	f.Add(append(frame(`{"v":2,"type":"hello","program":"kettled"}`), frame(`{"v":2,"type":"phase","name":"run","elapsedMs":12}`)...))
	f.Add(frame(`{"v":2,"type":"credential","credential":"x"}`))
	f.Add(append(frame(`{"v":2,"type":"hello","program":"kettled"}`), frame(goodStatus)...))
	f.Add(append(frame(`{"v":2,"type":"hello","program":"kettled"}`), frame(`{"v":2,"type":"journal","seq":0,"line":"{}"}`)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		var lines int64
		launcher := channel.NewLauncher(conversation{bytes.NewReader(data)})
		for i := 0; ; i++ {
			m, err := launcher.Next(t.Context())
			if err != nil {
				return
			}
			if _, hello := m.(channel.Hello); hello != (i == 0) {
				t.Fatalf("message %d is %T", i, m)
			}
			if j, ok := m.(channel.Journal); ok {
				if j.Seq != lines || j.Line == "" || len(j.Line) > channel.MaxLine || strings.ContainsAny(j.Line, "\n\x1b") {
					t.Fatalf("line %d, want %d: %q", j.Seq, lines, j.Line)
				}
				lines++
			}
		}
	})
}

func FuzzAdmission(f *testing.F) {
	f.Add(frame(`{"v":2,"type":"credential","credential":"x"}`))
	f.Add(append(frame(`{"v":2,"type":"credential","credential":"x","prefix":"kettle-0123456789abcdef"}`), frame(`{"v":2,"type":"drain"}`)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := channel.NewGuest(conversation{bytes.NewReader(data)}).Credential(t.Context())
		if got.Empty() == (err == nil) {
			t.Fatalf("credential empty: %v, error %v", got.Empty(), err)
		}
		guest := channel.NewGuest(conversation{bytes.NewReader(data)})
		a, err := guest.Admission(t.Context())
		if !channel.ValidPrefix(a.Prefix) == (err == nil) {
			t.Fatalf("admission without a part: %q, error %v", a.Prefix, err)
		}
		for drained := 0; err == nil; drained++ {
			var c channel.Command
			if c, err = guest.Next(t.Context()); err == nil && (c != channel.Drain || drained > 0) {
				t.Fatalf("command %q, %d before it", c, drained)
			}
		}
	})
}
