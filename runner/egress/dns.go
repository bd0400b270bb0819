// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv4"
)

const (
	maxQuery   = 4096 // bytes of a question that are read
	maxQueries = 64   // questions in one TCP connection
	answerTTL  = 30   // seconds; short, because what is open changes at the dispatch
)

// answer says what the gate answers to one DNS message, from what it knows alone: nothing is ever asked of anybody. nil
// means no answer, which is what a message deserves that is not a question.
func (g *Gate) answer(message []byte) []byte {
	var p dnsmessage.Parser
	head, err := p.Start(message)
	if err != nil || head.Response {
		return nil
	}
	reply := dnsmessage.Header{ID: head.ID, Response: true, OpCode: head.OpCode, RecursionDesired: head.RecursionDesired, RecursionAvailable: true}
	question, err := p.Question()
	if err != nil {
		return refusal(reply, dnsmessage.RCodeFormatError)
	}
	if _, err := p.Question(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		return refusal(reply, dnsmessage.RCodeFormatError)
	}
	if head.OpCode != 0 || question.Class != dnsmessage.ClassINET {
		return refusal(reply, dnsmessage.RCodeNotImplemented)
	}
	name := strings.TrimSuffix(strings.ToLower(question.Name.String()), ".")
	var body dnsmessage.ResourceBody
	switch {
	case !isHost(name):
		g.ledger.deny(site{port: portDNS, protocol: DNS}, NoName)
		reply.RCode = dnsmessage.RCodeNameError
	case !g.config.Rules.open(name, g.dispatched.Load()):
		g.ledger.deny(site{name, portDNS, DNS}, NotAllowed)
		reply.RCode = dnsmessage.RCodeNameError
	case question.Type == dnsmessage.TypeA:
		address, ok := g.names.address(name)
		if !ok {
			g.ledger.deny(site{name, portDNS, DNS}, TooManyNames)
			reply.RCode = dnsmessage.RCodeRefused
			break
		}
		body = &dnsmessage.AResource{A: address.As4()}
	}
	return response(reply, question, body)
}

// refusal answers a question that was not understood, without repeating it.
func refusal(reply dnsmessage.Header, code dnsmessage.RCode) []byte {
	reply.RCode = code
	out, err := (&dnsmessage.Message{Header: reply}).Pack()
	if err != nil {
		return nil
	}
	return out
}

// response repeats the question and answers it with body, or with nothing.
func response(reply dnsmessage.Header, question dnsmessage.Question, body dnsmessage.ResourceBody) []byte {
	m := dnsmessage.Message{Header: reply, Questions: []dnsmessage.Question{question}}
	if body != nil {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: answerTTL}, Body: body,
		}}
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}

// serveDatagrams answers questions one after the other, from the address that each was sent to, until the socket is
// closed. What comes faster than the limit is lost, as datagrams are.
func (g *Gate) serveDatagrams(ctx context.Context, socket *ipv4.PacketConn) {
	buf := make([]byte, maxQuery)
	for {
		n, control, from, err := socket.ReadFrom(buf)
		switch {
		case errors.Is(err, net.ErrClosed) || ctx.Err() != nil:
			return
		case err != nil:
			g.log.WarnContext(ctx, "reading a DNS question", slog.Any("error", err))
			if !pause(ctx) {
				return
			}
			continue
		}
		if control == nil || !g.queries.Allow() {
			g.ledger.deny(site{port: portDNS, protocol: DNS}, TooFast)
			continue
		}
		if out := g.answer(buf[:n]); out != nil {
			// It is the sandbox's loss if its own address cannot be answered.
			_, _ = socket.WriteTo(out, &ipv4.ControlMessage{Src: control.Dst}, from)
		}
	}
}

// serveQueries answers the questions of one TCP connection (RFC 1035, section 4.2.2). The address it was meant for does
// not matter.
func (g *Gate) serveQueries(client net.Conn) {
	_ = client.SetDeadline(time.Now().Add(g.config.Limits.Hello))
	for range maxQueries {
		var size [2]byte
		if _, err := io.ReadFull(client, size[:]); err != nil {
			return
		}
		message := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(client, message); err != nil {
			return
		}
		if !g.queries.Allow() {
			g.ledger.deny(site{port: portDNS, protocol: DNS}, TooFast)
			return
		}
		out := g.answer(message)
		if out == nil {
			return
		}
		if _, err := client.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)); err != nil { //nolint:gosec // an answer has some hundred bytes.
			return
		}
	}
}
