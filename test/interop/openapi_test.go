// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kettle/attest/internal/fakegithub"
)

// descriptionVariable names the folder of GitHub's descriptions; test/interop/run fetches them.
const descriptionVariable = "KETTLE_OPENAPI"

// book is GitHub's description of its REST API.
type book struct {
	github     *openapi3.T // github.com
	enterprise *openapi3.T // what only enterprises have there
}

func description(t *testing.T) *book {
	t.Helper()
	folder := os.Getenv(descriptionVariable)
	if folder == "" {
		t.Fatalf("%s does not name the folder of GitHub's OpenAPI descriptions: start these tests by test/interop/run", descriptionVariable)
	}
	load := func(name string) *openapi3.T {
		doc, err := openapi3.NewLoader().LoadFromFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		return doc
	}
	return &book{load("api.github.com.json"), load("ghec.json")}
}

// operation finds what the description says of a request: the path with the fewest parameters that fits.
func (b *book) operation(method, path string) (*routers.Route, map[string]string) {
	doc := b.github
	if strings.HasPrefix(path, "/enterprises/") {
		doc = b.enterprise
	}
	var best *routers.Route
	var bound map[string]string
	for template, item := range doc.Paths.Map() {
		op := item.GetOperation(method)
		params, ok := bind(template, path)
		if op == nil || !ok || best != nil && len(params) >= len(bound) {
			continue
		}
		best, bound = &routers.Route{Spec: doc, Path: template, PathItem: item, Method: method, Operation: op}, params
	}
	return best, bound
}

// bind matches a path with a template. A ref or a path at its end may hold slashes.
func bind(template, path string) (map[string]string, bool) {
	want, have := strings.Split(template, "/"), strings.Split(path, "/")
	if last := len(want) - 1; len(have) > len(want) && (want[last] == "{ref}" || want[last] == "{path}") {
		have = append(have[:last:last], strings.Join(have[last:], "/"))
	}
	if len(want) != len(have) {
		return nil, false
	}
	out := map[string]string{}
	for i := range want {
		switch name, isParam := strings.CutPrefix(want[i], "{"); {
		case isParam && have[i] != "":
			out[strings.TrimSuffix(name, "}")] = have[i]
		case want[i] != have[i]:
			return nil, false
		}
	}
	return out, true
}

// check validates one recorded answer, and the request where it was accepted.
func (b *book) check(ctx context.Context, x exchange) error {
	u, err := url.Parse(x.url)
	if err != nil {
		return err
	}
	route, params := b.operation(x.method, u.Path)
	if route == nil {
		return fmt.Errorf("the description has no %s %s", x.method, u.Path)
	}
	req, err := http.NewRequestWithContext(ctx, x.method, x.url, bytes.NewReader(x.asked))
	if err != nil {
		return err
	}
	req.Header = x.ask
	options := &openapi3filter.Options{
		IncludeResponseStatus: true, MultiError: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
	}
	in := &openapi3filter.RequestValidationInput{
		Request: req, PathParams: params, QueryParams: u.Query(), Route: route, Options: options,
	}
	if x.status < 300 && !strings.HasSuffix(u.Path, "/assets") {
		if err := openapi3filter.ValidateRequest(ctx, in); err != nil {
			return fmt.Errorf("request: %w", err)
		}
	}
	if x.status >= 400 && route.Operation.Responses.Status(x.status) == nil && undocumented(x) {
		return b.checkError(x)
	}
	return openapi3filter.ValidateResponse(ctx, &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: x.status, Header: x.header, Body: io.NopCloser(bytes.NewReader(x.answer)), Options: options,
	})
}

// undocumented lists the errors that GitHub gives and its description leaves out: 401 everywhere, a busy runner that is to be
// removed, a dispatch of what cannot be dispatched, what is not found or not accessible.
func undocumented(x exchange) bool {
	switch x.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return true
	case http.StatusUnprocessableEntity:
		return x.method == http.MethodDelete || strings.Contains(x.url, "/dispatches") || strings.Contains(x.url, "/generate-jitconfig")
	case http.StatusConflict:
		return strings.Contains(x.url, "/generate-jitconfig")
	}
	return false
}

// checkError validates an error against the description's common form.
func (b *book) checkError(x exchange) error {
	var body any
	if err := json.Unmarshal(x.answer, &body); err != nil {
		return err
	}
	return b.github.Components.Schemas["basic-error"].Value.VisitJSON(body)
}

// appToken makes a token of the App's installation.
func (w *world) appToken() string {
	w.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: w.app}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	now := time.Now()
	raw, err := jwt.Signed(signer).Claims(map[string]any{"iss": "77", "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}).Serialize()
	if err != nil {
		w.t.Fatal(err)
	}
	var out struct{ Token string }
	if status, body := w.send(http.MethodPost, "/app/installations/88/access_tokens", raw, ""); status != http.StatusCreated || json.Unmarshal(body, &out) != nil {
		w.t.Fatalf("%d %s", status, body)
	}
	return out.Token
}

// look asks for everything that the REST API shows of a run.
func (w *world) look(bearer string, run *fakegithub.Run, runner int64) {
	const repo = "/repos/acme/widget"
	id := strconv.FormatInt(run.ID, 10)
	for _, path := range []string{
		repo, repo + "/actions/runs", repo + "/actions/runs?event=workflow_dispatch&per_page=1", repo + "/actions/runs/" + id,
		repo + "/actions/runs/" + id + "/attempts/1", repo + "/actions/runs/" + id + "/jobs", repo + "/actions/runs/" + id + "/attempts/1/jobs",
		repo + "/actions/jobs/" + strconv.FormatInt(run.Jobs[0].ID, 10), repo + "/actions/workflows/build.yml/runs",
		repo + "/actions/runners", repo + "/actions/runners?name=independent-3", repo + "/actions/runners/" + strconv.FormatInt(runner, 10),
		repo + "/actions/runners/999999", repo + "/actions/runs/1", repo + "/actions/jobs/1",
	} {
		w.send(http.MethodGet, path, bearer, "")
	}
}

func TestAnswersFitDescription(t *testing.T) {
	w := newWorld(t)
	bearer := w.appToken()
	instance, id := w.register("independent-3")
	hold := make(chan struct{})
	started := make(chan struct{}, 2)
	e := &environment{t: t, run: func(context.Context, string) error {
		started <- struct{}{}
		<-hold
		return nil
	}}
	run := w.dispatch()
	w.look(bearer, run, id) // queued
	done := w.start(e, instance)
	<-started
	w.look(bearer, run, id) // in progress
	w.send(http.MethodDelete, "/repos/acme/widget/actions/runners/"+strconv.FormatInt(id, 10), token, "")
	close(hold)
	if _, err := w.github.Wait(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	if err := done(); err != nil {
		t.Fatal(err)
	}
	w.look(bearer, run, id) // completed
	w.send(http.MethodGet, "/repos/acme/widget/actions/jobs/"+strconv.FormatInt(run.Jobs[0].ID, 10)+"/logs", token, "")
	w.manage(bearer)
	w.content(run.SHA)
	doc := description(t)
	seen, failed := map[string]bool{}, map[string]bool{}
	for _, x := range w.recorded {
		u, err := url.Parse(x.url)
		if err != nil {
			t.Fatal(err)
		}
		route, _ := doc.operation(x.method, u.Path)
		name := x.method + " " + u.Path
		if route != nil {
			name = x.method + " " + route.Path
		}
		name += " " + strconv.Itoa(x.status)
		seen[name] = true
		if err := doc.check(t.Context(), x); err != nil && !failed[name] {
			failed[name] = true
			t.Errorf("%s: %s\n%.600s", name, brief(err), x.answer)
		}
	}
	t.Logf("%d answers of %d kinds were validated", len(w.recorded), len(seen))
	if len(seen) < 40 {
		t.Errorf("only %d kinds of answer", len(seen))
	}
}

// brief shortens a validation error, which repeats the whole schema and value.
func brief(err error) string {
	var out []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if strings.Contains(line, "rror") || strings.Contains(line, "doesn't match") || strings.Contains(line, "missing") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return strings.Join(out[:min(len(out), 12)], " | ")
}

// manage registers, refuses, dispatches, cancels and removes.
func (w *world) manage(bearer string) {
	const repo = "/repos/acme/widget/actions/"
	for _, scope := range []string{"/repos/acme/widget", "/orgs/acme", "/enterprises/big"} {
		base := scope + "/actions/runners"
		ask := `{"name":"n1","runner_group_id":1,"labels":["tee"]}`
		_, body := w.send(http.MethodPost, base+"/generate-jitconfig", token, ask)
		var answer struct{ Runner struct{ ID int64 } }
		if err := json.Unmarshal(body, &answer); err != nil {
			w.t.Fatal(err)
		}
		id := strconv.FormatInt(answer.Runner.ID, 10)
		w.send(http.MethodPost, base+"/generate-jitconfig", token, ask)
		w.send(http.MethodPost, base+"/generate-jitconfig", token, `{"name":"n2","runner_group_id":1,"labels":[]}`)
		w.send(http.MethodPost, base+"/generate-jitconfig", token, `{"name":"n2","runner_group_id":7,"labels":["tee"]}`)
		w.send(http.MethodPost, base+"/generate-jitconfig", "wrong", ask)
		w.send(http.MethodGet, base+"?per_page=1", token, "")
		w.send(http.MethodGet, base+"/"+id, token, "")
		w.send(http.MethodDelete, base+"/"+id, token, "")
	}
	w.send(http.MethodGet, repo+"runs/1", bearer, "")
	w.send(http.MethodPost, repo+"workflows/build.yml/dispatches", bearer, `{"ref":"main"}`)
	w.send(http.MethodPost, repo+"workflows/build.yml/dispatches", bearer, `{"ref":"nowhere"}`)
	runs := w.github.Runs()
	last := strconv.FormatInt(runs[len(runs)-1].ID, 10)
	w.send(http.MethodPost, repo+"runs/"+last+"/cancel", bearer, "")
	w.send(http.MethodPost, repo+"runs/"+last+"/cancel", bearer, "")
	w.send(http.MethodPost, repo+"runs/"+last+"/force-cancel", bearer, "")
	w.send(http.MethodGet, repo+"runs/"+last, bearer, "")
}

// content reads and writes what a job reads and writes in a repository.
func (w *world) content(sha string) {
	const repo = "/repos/acme/widget"
	for _, path := range []string{
		repo + "/commits/" + sha, repo + "/git/ref/heads/main", repo + "/contents/README.md", repo + "/contents/nothing", repo + "/tarball/main",
		repo + "/zipball/main", repo + "/releases/tags/none", repo + "/attestations/sha256:" + strings.Repeat("a", 64),
	} {
		w.send(http.MethodGet, path, token, "")
	}
	_, body := w.send(http.MethodPost, repo+"/releases", token, `{"tag_name":"v1"}`)
	var release struct {
		ID     int64
		Upload string `json:"upload_url"`
	}
	if err := json.Unmarshal(body, &release); err != nil {
		w.t.Fatal(err)
	}
	upload, _, _ := strings.Cut(release.Upload, "{")
	w.send(http.MethodPost, strings.TrimPrefix(upload, w.base)+"?name=a.txt", token, "content")
	w.send(http.MethodGet, repo+"/releases/tags/v1", token, "")
	w.send(http.MethodGet, repo+"/releases/"+strconv.FormatInt(release.ID, 10), token, "")
	w.send(http.MethodPost, repo+"/attestations", token, `{"bundle":{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json",`+
		`"verificationMaterial":{"publicKey":{"hint":"x"}},"dsseEnvelope":{"payloadType":"application/vnd.in-toto+json","payload":"`+
		payload+`","signatures":[{"sig":"AAAA"}]}}}`)
	w.send(http.MethodGet, repo+"/attestations/sha256:"+strings.Repeat("b", 64), token, "")
}

// payload is an in-toto statement about sha256:bb…b in base64.
const payload = "eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCJwcmVkaWNhdGVUeXBlIjoiaHR0cHM6Ly9rZXR0bGUudGVzdC9wIiwic3ViamVjdCI6W3s" +
	"ibmFtZSI6ImEiLCJkaWdlc3QiOnsic2hhMjU2IjoiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYiJ9fV19"
