// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kettle/attest/attest/collect/quoteport"
)

const (
	exchangeLimit = 30 * time.Second      // one request and its reply
	retryPause    = 20 * time.Millisecond // while the other side is not there

	reportSize       = 1184
	reportDataOffset = 0x50
)

// port is a simulated secure processor at the other end of a stream.
type port struct {
	stream io.ReadWriteCloser
	limit  time.Duration
	turn   chan struct{} // holds one token; whoever has it owns stream and broken
	broken error
}

// New makes a device of a stream that speaks package quoteport, such as one end of a pipe. The device closes it.
func New(stream io.ReadWriteCloser) *Device { return &Device{newPort(stream)} }

func newPort(stream io.ReadWriteCloser) *port {
	d := &port{stream: stream, limit: exchangeLimit, turn: make(chan struct{}, 1)}
	d.turn <- struct{}{}
	return d
}

func (d *port) platform() string { return PlatformSim }

// close closes the stream. A request under way fails.
func (d *port) close() error {
	if err := d.stream.Close(); err != nil {
		return fmt.Errorf("closing the quote port: %w", err)
	}
	return nil
}

// quote asks for a report over reportData. A refusal of the processor is a [refusal.Refusal].
func (d *port) quote(ctx context.Context, reportData [64]byte) (Quote, error) {
	reply, err := d.exchange(ctx, quoteport.Request{Op: quoteport.OpReport, ReportData: reportData})
	if err != nil {
		return Quote{}, fmt.Errorf("asking for a quote: %w", err)
	}
	return Quote{Provider: ProviderSNP, Report: reply.Report, Endorsements: reply.Endorsements}, nil
}

// extend extends the run-time register by digest. When ctx ends first, the extension may still happen.
func (d *port) extend(ctx context.Context, digest [32]byte) error {
	if _, err := d.exchange(ctx, quoteport.Request{Op: quoteport.OpExtend, Digest: digest}); err != nil {
		return fmt.Errorf("extending the run-time register: %w", err)
	}
	return nil
}

// activate implements source: a simulated processor has no TPM.
func (d *port) activate(context.Context, []byte, []byte) ([]byte, error) {
	return nil, noActivation(PlatformSim)
}

// exchange sends one request and waits for its reply. A caller that gives up leaves the exchange to end by itself
// within the device's own limit, so that the stream stays in step for the next caller.
func (d *port) exchange(ctx context.Context, request quoteport.Request) (quoteport.Reply, error) {
	if err := ctx.Err(); err != nil {
		return quoteport.Reply{}, err
	}
	select {
	case <-d.turn:
	case <-ctx.Done():
		return quoteport.Reply{}, context.Cause(ctx)
	}
	type answer struct {
		reply quoteport.Reply
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		reply, err := d.take(context.WithoutCancel(ctx), request)
		d.turn <- struct{}{}
		done <- answer{reply, err}
	}()
	select {
	case a := <-done:
		return a.reply, a.err
	case <-ctx.Done():
		return quoteport.Reply{}, context.Cause(ctx)
	}
}

// take runs one exchange; the caller has the turn.
func (d *port) take(ctx context.Context, request quoteport.Request) (quoteport.Reply, error) {
	if d.broken != nil {
		return quoteport.Reply{}, d.broken
	}
	ctx, cancel := context.WithTimeout(ctx, d.limit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = d.stream.Close() })
	defer stop()
	reply, err := d.roundTrip(ctx, request)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("no reply within %v: %w: %w", d.limit, ctx.Err(), err)
		}
		d.broken = fmt.Errorf("%w: %w", ErrBroken, err)
		_ = d.stream.Close()
		return quoteport.Reply{}, d.broken
	}
	if reply.Refusal != nil {
		return quoteport.Reply{}, reply.Refusal
	}
	return reply, nil
}

func (d *port) roundTrip(ctx context.Context, request quoteport.Request) (quoteport.Reply, error) {
	body, err := request.Marshal()
	if err != nil {
		return quoteport.Reply{}, err
	}
	if err := quoteport.WriteFrame(d.stream, body); err != nil {
		return quoteport.Reply{}, err
	}
	answer, err := d.readReply(ctx)
	if err != nil {
		return quoteport.Reply{}, err
	}
	reply, err := quoteport.ParseReply(request.Op, answer)
	if err != nil {
		return quoteport.Reply{}, err
	}
	return reply, checkReport(reply, request)
}

// readReply reads one frame. A virtio-serial port gives end of file while nobody has its other end open (Linux,
// drivers/char/virtio_console.c, port_fops_read), so the end before the first byte only means to try again.
func (d *port) readReply(ctx context.Context) ([]byte, error) {
	for {
		body, err := quoteport.ReadFrame(d.stream)
		if !errors.Is(err, io.EOF) {
			return body, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.New("nobody at the other side of the quote port")
		case <-time.After(retryPause):
		}
	}
}

// checkReport demands that the answer is to this question. The signature is the verifier's to check.
func checkReport(reply quoteport.Reply, request quoteport.Request) error {
	if request.Op != quoteport.OpReport || reply.Report == nil {
		return nil
	}
	if len(reply.Report) != reportSize {
		return fmt.Errorf("a report of %d bytes, want %d", len(reply.Report), reportSize)
	}
	if [64]byte(reply.Report[reportDataOffset:][:64]) != request.ReportData {
		return errors.New("a report over other report data")
	}
	return nil
}
