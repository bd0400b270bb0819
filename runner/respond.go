// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// errEnding answers a request that ends the environment. Why is for the operator.
var errEnding = errors.New("the environment ends: it cannot attest any more")

// respond attests outputs. err answers the request; fatal ends the environment, because the sandbox could not be
// frozen or thawed, or the secure processor failed. Only what the job asked for can be refused and asked for again.
func (a *Agent) respond(ctx context.Context, o Outputs) (resp *Response, err, fatal error) {
	if len(a.responses)+len(a.deferred) >= maxResponses {
		return nil, refuse(fmt.Sprintf("at most %d responses for one job", maxResponses), "one more", "attest more files in one step"), nil
	}
	if err := a.journal.Enter(OnAsk, ""); err != nil {
		return nil, err, err
	}
	if o.Workspace == "" {
		o.Workspace = a.env.job.Workspace
	}
	resp, refused, fatal := a.attestAlive(ctx, o)
	if fatal != nil {
		return nil, errEnding, fmt.Errorf("attesting outputs: %w", fatal)
	}
	reason := "nothing attested"
	if refused == nil {
		a.keep(resp)
		reason = fmt.Sprintf("response %d, %d subjects", resp.Sequence, len(resp.Subjects))
	}
	if jerr := a.journal.Enter(OnAnswer, reason); jerr != nil {
		return nil, errEnding, jerr
	}
	return resp, refused, nil
}

func (a *Agent) keep(resp *Response) {
	a.responses = append(a.responses, resp.Bundle)
	a.note(func(s *Status) { s.Responses = len(a.responses) })
}

// attestAlive attests outputs of a running job. The sandbox stands still twice: while the outputs are held, and while a
// statement key exists. What is held without a snapshot has to be hashed in between, and then it stands still once.
func (a *Agent) attestAlive(ctx context.Context, o Outputs) (resp *Response, refused, fatal error) {
	settle, cancelSettle := context.WithTimeout(ctx, settleTime)
	defer cancelSettle()
	if err := a.ports.Keeper.Settle(settle); err != nil { // the freeze then takes longer, no more
		a.log.WarnContext(ctx, "settling the disk", slog.Any("error", err))
	}
	c := capture{how: statement.OutputsSnapshot}
	defer c.release(&fatal)
	stand, cancel := context.WithTimeout(ctx, a.config.Freeze+quoteTime)
	defer cancel()
	fatal = a.still(stand, func() error {
		err := a.hold(stand, &c, o)
		if err = judge(err, &refused); err != nil || refused != nil || c.how == statement.OutputsSnapshot {
			return err
		}
		resp, err = a.sign(stand, c)
		return err
	})
	if errors.Is(refused, ErrOverBudget) {
		a.deferred = append(a.deferred, o)
		refused = afterTheEnd(refused)
	}
	if fatal != nil || refused != nil || resp != nil {
		return resp, refused, fatal
	}
	hashing, cancelHash := context.WithTimeout(ctx, hashTime)
	defer cancelHash()
	if fatal = judge(c.hash(hashing), &refused); fatal != nil || refused != nil {
		return nil, refused, fatal
	}
	stand, cancelSign := context.WithTimeout(ctx, quoteTime)
	defer cancelSign()
	fatal = a.still(stand, func() (err error) {
		resp, err = a.sign(stand, c)
		return err
	})
	return resp, nil, fatal
}

// hold captures outputs while the sandbox stands still, and hashes them as well when nothing else holds them.
func (a *Agent) hold(ctx context.Context, c *capture, o Outputs) (err error) {
	c.at = a.ports.Now()
	defer func() { c.frozen = a.ports.Now().Sub(c.at) }()
	if c.held, err = a.ports.Keeper.Hold(ctx, o); err != nil {
		return err
	}
	if c.held.Snapshot() {
		return nil
	}
	c.how = statement.OutputsFrozen
	return c.hash(ctx)
}

// afterTheEnd tells a job that its outputs are too large for now.
func afterTheEnd(why error) error {
	r := refuse("outputs that can be hashed while the job stands still", "more than that",
		"attest smaller files in this step; these are attested when the job has ended, in the operator's record")
	return r.Because(why)
}

// afterwards attests what could not be hashed while the sandbox stood still. It is dead now, and the answer goes to the
// record alone: nobody is left who asked.
func (a *Agent) afterwards(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, hashTime+quoteTime)
	defer cancel()
	var errs []error
	for _, o := range a.deferred {
		resp, err := a.attestDead(ctx, o)
		if err != nil {
			errs = append(errs, fmt.Errorf("attesting outputs after the end of the job: %w", err))
			continue
		}
		a.keep(resp)
	}
	return errors.Join(errs...)
}

func (a *Agent) attestDead(ctx context.Context, o Outputs) (resp *Response, err error) {
	c := capture{how: statement.OutputsEnded, at: a.ports.Now()}
	defer c.release(&err)
	if c.held, err = a.ports.Keeper.HoldDead(ctx, o); err != nil {
		return nil, err
	}
	if err := c.hash(ctx); err != nil {
		return nil, err
	}
	return a.sign(ctx, c)
}

// sign quotes and signs provenance for what was captured. The caller holds the sandbox still, or has seen it dead.
func (a *Agent) sign(ctx context.Context, c capture) (*Response, error) {
	return a.env.respond(ctx, a.provenance(c), len(a.responses)+1)
}

// capture is the outputs of one request on their way into provenance.
type capture struct {
	held     Held
	how      statement.Outputs
	at       time.Time     // when they stood still
	frozen   time.Duration // how long that took
	subjects []statement.Subject
}

func (c *capture) hash(ctx context.Context) (err error) {
	c.subjects, err = c.held.Hash(ctx)
	return err
}

func (c *capture) release(err *error) {
	if c.held != nil {
		*err = errors.Join(*err, c.held.Release())
	}
}

// judge tells what the job did wrong, which is answered, from what went wrong, which is returned.
func judge(err error, refused *error) error {
	if r := (*refusal.Refusal)(nil); errors.As(err, &r) {
		*refused = err
		return nil
	}
	return err
}
