// SPDX-License-Identifier: Apache-2.0

package scaleset

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/actions/scaleset"
	"github.com/hashicorp/go-retryablehttp"

	"github.com/kettle/attest/runner"
)

// script answers as the Actions service does, without a network, and every poll with one text.
type script struct{ answer string }

// RoundTrip implements [http.RoundTripper].
func (s script) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := http.StatusOK, "{}"
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/registration-token"):
		status, body = http.StatusCreated, `{"token":"t"}`
	case strings.HasSuffix(path, "/runner-registration"):
		body = `{"url":"https://actions.example/","token":"eyJhbGciOiJub25lIn0.eyJleHAiOjk5OTk5OTk5OTl9."}`
	case strings.HasSuffix(path, "/sessions"):
		body = `{"sessionId":"11111111-1111-1111-1111-111111111111","messageQueueUrl":"https://actions.example/queue","messageQueueAccessToken":"q"}`
	case strings.HasSuffix(path, "/acquirejobs"):
		body = `{"count":1,"value":[5]}`
	case r.Method == http.MethodGet:
		body = s.answer
	case r.Method == http.MethodDelete:
		status, body = http.StatusNoContent, ""
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r,
		ContentLength: int64(len(body)),
	}, nil
}

// scripted is a listener to a session that answers every poll with one text.
func scripted(t *testing.T, answer string) (l *listener, done func()) {
	t.Helper()
	transport := &http.Transport{}
	transport.RegisterProtocol("https", script{answer})
	client := retryablehttp.NewClient()
	client.HTTPClient = &http.Client{Transport: transport, Timeout: -1}
	client.RetryMax, client.ErrorHandler = 0, retryablehttp.PassthroughErrorHandler
	api, err := scaleset.NewClientWithPersonalAccessToken(scaleset.NewClientWithPersonalAccessTokenConfig{
		GitHubConfigURL: "https://github.com/acme/widget", PersonalAccessToken: placeholder,
	}, scaleset.WithRetryableHTTPClint(client))
	if err != nil {
		t.Fatal(err)
	}
	session, err := api.MessageSessionClient(t.Context(), 1, "o")
	if err != nil {
		t.Fatal(err)
	}
	r := &Registrar{config: Config{Log: slog.New(slog.DiscardHandler)}, clock: clock{now: time.Now}, seat: seat{reg: runner.Registration{ID: 7, Name: "k"}}}
	return &listener{registrar: r, session: session}, transport.CloseIdleConnections
}
