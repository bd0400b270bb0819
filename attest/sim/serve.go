// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kettle/attest/attest/collect/quoteport"
	"github.com/kettle/attest/attest/refusal"
)

// Serve answers the guest's requests (package quoteport) on one stream, one after the other, until the stream ends,
// which gives nil, or breaks, or ctx is done, which gives its error. A request that is well framed and wrong gets a
// refusal and does no harm; a frame that is too long gets a refusal and ends the stream, since nobody can tell where
// the next one starts.
//
// The caller owns the stream. To end a waiting read when ctx is done, Serve sets a deadline in the past if the stream
// has deadlines and otherwise closes it if it can be closed.
func (p *Processor) Serve(ctx context.Context, stream io.ReadWriter) error {
	stop := context.AfterFunc(ctx, func() { interrupt(stream) })
	defer stop()
	for {
		err := p.serveOne(stream)
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			return fmt.Errorf("serving quotes: %w", context.Cause(ctx))
		case errors.Is(err, io.EOF):
			return nil
		}
		return fmt.Errorf("serving quotes: %w", err)
	}
}

func interrupt(stream io.ReadWriter) {
	if d, ok := stream.(interface{ SetDeadline(t time.Time) error }); ok && d.SetDeadline(time.Unix(1, 0)) == nil {
		return
	}
	if c, ok := stream.(io.Closer); ok {
		_ = c.Close()
	}
}

func (p *Processor) serveOne(stream io.ReadWriter) error {
	body, readErr := quoteport.ReadFrame(stream)
	var reply quoteport.Reply
	switch {
	case errors.Is(readErr, quoteport.ErrFrameTooLong):
		reply.Refusal = &refusal.Refusal{
			Link: "quote port", Code: refusal.Malformed, Want: "a frame of at most 64 KiB", Got: "a longer one",
			Next: "open the port again",
		}
	case readErr != nil:
		return readErr //nolint:wrapcheck // Serve tells io.EOF from the rest and wraps it.
	default:
		var err error
		if reply, err = p.answer(body); err != nil {
			return err
		}
	}
	out, err := reply.Marshal()
	if err != nil {
		return fmt.Errorf("answering: %w", err)
	}
	return errors.Join(quoteport.WriteFrame(stream, out), readErr)
}

func (p *Processor) answer(body []byte) (quoteport.Reply, error) {
	request, err := quoteport.ParseRequest(body)
	var refused *refusal.Refusal
	if errors.As(err, &refused) {
		return quoteport.Reply{Refusal: refused}, nil
	}
	if err != nil {
		return quoteport.Reply{}, fmt.Errorf("reading a request: %w", err)
	}
	if request.Op == quoteport.OpExtend {
		register := p.Extend(request.Digest)
		return quoteport.Reply{Register: &register}, nil
	}
	report, err := p.Report(request.ReportData)
	if err != nil {
		return quoteport.Reply{}, err
	}
	return quoteport.Reply{Report: report, Endorsements: p.Endorsements()}, nil
}
