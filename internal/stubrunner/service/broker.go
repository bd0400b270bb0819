// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/kettle/attest/internal/stubrunner/message"
)

// What the broker can say besides a message.
var (
	// ErrRunnerNotFound says that the registration is gone.
	ErrRunnerNotFound = errors.New("the runner registration was not found")
	// ErrVersionTooOld says that this runner version gets no more messages.
	ErrVersionTooOld = errors.New("the runner version is deprecated and cannot receive messages")
	// ErrDeprovisioned says that a hosted runner was taken away.
	ErrDeprovisioned = errors.New("the hosted runner has been deprovisioned")
	// ErrSessionInvalid says that the session has ended.
	ErrSessionInvalid = errors.New("the runner session is no longer valid")
	// ErrSessionConflict says that the runner has another session.
	ErrSessionConflict = errors.New("a session for this runner already exists")
	// ErrAccessDenied says that the broker refuses the runner.
	ErrAccessDenied = errors.New("the runner is not allowed to connect")
	// ErrJobNotFound says that the offered job is gone.
	ErrJobNotFound = errors.New("the offered job was not found")
)

const brokerSource = "actions-broker-listener"

// pollTime bounds one long poll; the broker answers after about 50 seconds.
const pollTime = 100 * time.Second

// Agent describes the runner to the broker.
type Agent struct {
	// ID and Name are the registration's.
	ID   int64
	Name string
	// Version is the version it says it has; empty: [Version].
	Version string
	// Owner is the text that names this process.
	Owner string
	// OSDescription is the kernel's version text.
	OSDescription string
	// Ephemeral and DisableUpdate are the registration's settings.
	Ephemeral     bool
	DisableUpdate bool
}

// Broker is the message service.
type Broker struct {
	client *http.Client
	base   string
	tokens *Tokens
	agent  Agent
}

// NewBroker returns the message service at a base URL.
func NewBroker(client *http.Client, base string, tokens *Tokens, agent Agent) *Broker {
	agent.Version = cmp.Or(agent.Version, Version)
	return &Broker{client: client, base: base, tokens: tokens, agent: agent}
}

// call sends with the runner's token, and once more with a new token after 401.
func (b *Broker) call(ctx context.Context, c call, path string) error {
	target, err := at(b.base, path)
	if err != nil {
		return err
	}
	c.url = target
	return withToken(ctx, b.client, b.tokens, c)
}

func withToken(ctx context.Context, client *http.Client, tokens *Tokens, c call) error {
	var err error
	for range 2 {
		if c.bearer, err = tokens.Get(ctx); err != nil {
			return err
		}
		err = roundTrip(ctx, client, c)
		var status *StatusError
		if !errors.As(err, &status) || status.Code != http.StatusUnauthorized {
			return err
		}
		tokens.Forget()
	}
	return err
}

// CreateSession opens a session and returns its identifier.
func (b *Broker) CreateSession(ctx context.Context) (string, error) {
	session := map[string]any{
		"sessionId": "00000000-0000-0000-0000-000000000000",
		"ownerName": b.agent.Owner,
		"agent": map[string]any{
			"id": b.agent.ID, "name": b.agent.Name, "version": b.agent.Version, "osDescription": b.agent.OSDescription,
			"ephemeral": b.agent.Ephemeral, "status": 0, "provisioningState": nil,
		},
		"useFipsEncryption": false,
	}
	var answer struct {
		SessionID string `json:"sessionId"`
	}
	err := b.call(ctx, call{method: http.MethodPost, in: session, out: &answer}, "session")
	var status *StatusError
	if errors.As(err, &status) {
		switch status.Code {
		case http.StatusForbidden:
			return "", fmt.Errorf("%w: %w", ErrAccessDenied, err)
		case http.StatusConflict:
			return "", fmt.Errorf("%w: %w", ErrSessionConflict, err)
		}
	}
	if err != nil {
		return "", fmt.Errorf("creating broker session: %w", err)
	}
	return answer.SessionID, nil
}

// DeleteSession ends the session.
func (b *Broker) DeleteSession(ctx context.Context) error {
	if err := b.call(ctx, call{method: http.MethodDelete}, "session"); err != nil {
		return fmt.Errorf("deleting broker session: %w", err)
	}
	return nil
}

func (b *Broker) query(session string, busy bool) url.Values {
	status := "Online"
	if busy {
		status = "Busy"
	}
	return url.Values{
		"sessionId": {session}, "status": {status}, "runnerVersion": {b.agent.Version}, "os": {OS}, "architecture": {Arch()},
	}
}

// Next waits for a message; nil means that there is none at the moment.
func (b *Broker) Next(ctx context.Context, session string, busy bool) (*message.Broker, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTime)
	defer cancel()
	q := b.query(session, busy)
	q.Set("disableUpdate", strconv.FormatBool(b.agent.DisableUpdate))
	var msg message.Broker
	if err := b.call(ctx, call{method: http.MethodGet, query: q, out: &msg}, "message"); err != nil {
		return nil, brokerError(err)
	}
	if msg.Type == "" {
		return nil, nil //nolint:nilnil // No message is the usual answer.
	}
	return &msg, nil
}

// Acknowledge confirms that the offer of a job arrived. [ErrJobNotFound] when the job is gone.
func (b *Broker) Acknowledge(ctx context.Context, session, request string) error {
	c := call{method: http.MethodPost, query: b.query(session, false), in: map[string]string{"runnerRequestId": request}}
	return brokerError(b.call(ctx, c, "acknowledge"))
}

func brokerError(err error) error {
	var status *StatusError
	if !errors.As(err, &status) {
		return err
	}
	kinds := map[string]error{
		"RunnerNotFound": ErrRunnerNotFound, "RunnerVersionTooOld": ErrVersionTooOld,
		"HostedRunnerDeprovisioned": ErrDeprovisioned, "RunnerSessionInvalid": ErrSessionInvalid,
		"AcknowledgeJobNotFound": ErrJobNotFound,
	}
	f := status.fault(brokerSource)
	if known, ok := kinds[f.Kind]; ok {
		return fmt.Errorf("%w: %s", known, strings.TrimSpace(f.Message))
	}
	return fmt.Errorf("failed to get job message: %w", err)
}
