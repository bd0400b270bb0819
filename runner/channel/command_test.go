// SPDX-License-Identifier: Apache-2.0

package channel_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/channel"
)

func admission() channel.Admission {
	return channel.Admission{Credential: secret.New("ghp_secret"), Prefix: prefix}
}

// TestCommands has the guest receive while it sends, and the launcher send while it receives.
func TestCommands(t *testing.T) {
	t.Parallel()
	inside, outside := pair(t)
	guest, launcher := channel.NewGuest(inside), channel.NewLauncher(outside)
	failed := make(chan error, 1)
	drained := make(chan struct{})
	go func() {
		failed <- func() error {
			if err := guest.Send(t.Context(), channel.Hello{Program: "kettled"}); err != nil {
				return err
			}
			a, err := guest.Admission(t.Context())
			if err != nil || a.Credential.Reveal() != "ghp_secret" || a.Prefix != prefix {
				return errors.Join(errors.New("another admission came out"), err)
			}
			go func() {
				defer close(drained)
				if c, err := guest.Next(t.Context()); c != channel.Drain || err != nil {
					t.Errorf("got %q, %v", c, err)
				}
				if _, err := guest.Next(t.Context()); !errors.Is(err, io.EOF) {
					t.Errorf("a launcher that has gone: %v", err)
				}
			}()
			for seq := range int64(50) {
				if err := guest.Send(t.Context(), channel.Journal{Seq: seq, Line: "{}"}); err != nil {
					return err
				}
			}
			return guest.Send(t.Context(), channel.End{Outcome: "Done."})
		}()
	}()
	for {
		m, err := launcher.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case channel.Hello:
			if err := launcher.Admit(t.Context(), admission()); err != nil {
				t.Fatal(err)
			}
			if err := launcher.Admit(t.Context(), admission()); !errors.Is(err, channel.ErrProtocol) {
				t.Errorf("a second credential: %v", err)
			}
		case channel.Journal:
			if m.Seq == 20 {
				go func() { _ = errors.Join(launcher.Drain(t.Context()), launcher.Drain(t.Context())) }()
			}
		case channel.End:
			if err := <-failed; err != nil {
				t.Error(err)
			}
			if err := launcher.Drain(t.Context()); err != nil { // waits for the other one
				t.Error(err)
			}
			_ = outside.Close()
			<-drained
			return
		}
	}
}

func TestCommandsRefused(t *testing.T) {
	t.Parallel()
	for name, bodies := range map[string][]string{
		"twice":             {`{"v":2,"type":"drain"}`, `{"v":2,"type":"drain"}`},
		"with a field":      {`{"v":2,"type":"drain","state":"x"}`},
		"unknown":           {`{"v":2,"type":"kill"}`},
		"credential again":  {`{"v":2,"type":"credential","credential":"x","prefix":"` + prefix + `"}`},
		"of another time":   {`{"v":1,"type":"drain"}`},
		"what a guest says": {goodStatus},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inside, outside := pair(t)
			go func() {
				for _, body := range bodies {
					_, _ = outside.Write(frame(body))
				}
				_ = outside.Close()
			}()
			guest := channel.NewGuest(inside)
			var err error
			for err == nil {
				_, err = guest.Next(t.Context())
			}
			if !errors.Is(err, channel.ErrProtocol) {
				t.Errorf("want a refusal, got %v", err)
			}
		})
	}
}

// late says that a deadline has passed, the stream's or the context's.
func late(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// TestHalfAMessage: nothing follows a message that could not go out whole.
func TestHalfAMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inside, outside := pair(t)
		guest := channel.NewGuest(inside)
		go func() { _, _ = io.ReadFull(outside, make([]byte, 7)) }() // and no more
		begin := time.Now()
		if err := guest.Send(t.Context(), channel.Hello{Program: "kettled"}); !late(err) {
			t.Errorf("a launcher that stopped reading: %v", err)
		}
		if waited := time.Since(begin); waited != 10*time.Second {
			t.Errorf("waited %v", waited)
		}
		go func() { _, _ = io.Copy(io.Discard, outside) }()
		if err := guest.Send(t.Context(), channel.End{Outcome: "x"}); !errors.Is(err, channel.ErrBroken) {
			t.Errorf("a message behind half a message: %v", err)
		}
		_ = inside.Close()
	})
}

// TestSendAgain: a message of which nothing went out can be sent again.
func TestSendAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inside, outside := pair(t)
		guest := channel.NewGuest(inside)
		line := channel.Journal{Seq: 0, Line: "{}"}
		if err := guest.Send(t.Context(), line); !late(err) {
			t.Errorf("a launcher that does not read: %v", err)
		}
		go func() { _, _ = io.Copy(io.Discard, outside) }()
		if err := guest.Send(t.Context(), line); err != nil {
			t.Error(err)
		}
		if err := guest.Send(t.Context(), line); !errors.Is(err, channel.ErrProtocol) {
			t.Errorf("one line twice: %v", err)
		}
		_ = inside.Close()
	})
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain é 世": "plain é 世", "a\nb\x1b": "a b ", "a\u202eb": "a b", "\xff": " ", "": "", "12345678901世": "12345678901", "1234567890123": "123456789012",
	} {
		if got := channel.Printable(in, 12); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	inside, outside := pair(t)
	go func() { _, _ = io.Copy(io.Discard, outside) }()
	wild := channel.Printable(strings.Repeat("a\x00\u2028\ufffd世", 4000), channel.MaxLine)
	if !utf8.ValidString(wild) || len(wild) > channel.MaxLine {
		t.Fatalf("%d bytes", len(wild))
	}
	if err := channel.NewGuest(inside).Send(t.Context(), channel.Journal{Line: wild}); err != nil {
		t.Error(err)
	}
}

// TestNamedOnly: a launcher that gives no credential names the environment all the same, and is not taken for one that does.
func TestNamedOnly(t *testing.T) {
	t.Parallel()
	inside, outside := pair(t)
	sent := make(chan error, 1)
	go func() {
		sent <- channel.NewLauncher(outside).Admit(t.Context(), channel.Admission{Prefix: prefix})
	}()
	a, err := channel.NewGuest(inside).Admission(t.Context())
	if err := errors.Join(err, <-sent); err != nil || !a.Credential.Empty() || a.Prefix != prefix {
		t.Errorf("got prefix %q, %v", a.Prefix, err)
	}
	go func() {
		sent <- channel.NewLauncher(outside).Admit(t.Context(), channel.Admission{Prefix: prefix})
	}()
	if c, err := channel.NewGuest(inside).Credential(t.Context()); !errors.Is(err, channel.ErrProtocol) || !c.Empty() {
		t.Errorf("no credential was taken for one: %v", err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}
