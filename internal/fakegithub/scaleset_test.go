// SPDX-License-Identifier: Apache-2.0

package fakegithub_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/actions/scaleset"
)

// scaleSetClient is GitHub's own client of scale sets, for a repository or an account.
func scaleSetClient(t *testing.T, base, path string) *scaleset.Client {
	t.Helper()
	c, err := scaleset.NewClientWithPersonalAccessToken(scaleset.NewClientWithPersonalAccessTokenConfig{
		GitHubConfigURL: base + path, PersonalAccessToken: operatorToken,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestScaleSet drives a scale set with GitHub's own client.
func TestScaleSet(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	ctx, c := t.Context(), scaleSetClient(t, base, "/acme/widget")
	if set, err := c.GetRunnerScaleSet(ctx, 1, "cvm"); err != nil || set != nil {
		t.Fatalf("got %+v, %v", set, err)
	}
	wanted := &scaleset.RunnerScaleSet{
		Name: "cvm", RunnerGroupID: 1, Labels: []scaleset.Label{{Name: "attested-cvm"}, {Name: "self-hosted"}}, RunnerSetting: scaleset.RunnerSetting{DisableUpdate: true},
	}
	set, err := c.CreateRunnerScaleSet(ctx, wanted)
	if err != nil || set.ID == 0 || !set.RunnerSetting.DisableUpdate || set.Labels[0].Name != "attested-cvm" {
		t.Fatalf("got %+v, %v", set, err)
	}
	if _, err := c.CreateRunnerScaleSet(ctx, wanted); err == nil || !strings.Contains(err.Error(), "409") {
		t.Errorf("created twice: %v", err)
	}
	session, err := c.MessageSessionClient(ctx, set.ID, "host")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.MessageSessionClient(ctx, set.ID, "other"); err == nil || !strings.Contains(err.Error(), "409") {
		t.Errorf("two sessions: %v", err)
	}
	setting := &scaleset.RunnerScaleSetJitRunnerSetting{Name: "kettle-1", WorkFolder: "_work"}
	made, err := c.GenerateJitRunnerConfig(ctx, setting, set.ID)
	if err != nil || made.Runner.RunnerScaleSetID != set.ID || made.EncodedJITConfig == "" {
		t.Fatalf("got %+v, %v", made, err)
	}
	if _, err := c.GenerateJitRunnerConfig(ctx, setting, set.ID); !errors.Is(err, scaleset.RunnerExistsError) {
		t.Errorf("registered twice: %v", err)
	}
	if found, err := c.GetRunnerByName(ctx, "kettle-1"); err != nil || found.ID != made.Runner.ID {
		t.Errorf("got %+v, %v", found, err)
	}
	run := dispatch(t, s, "widget", "build.yml")
	m, err := session.GetMessage(ctx, 0, 1)
	if err != nil || len(m.JobAvailableMessages) != 1 || m.JobAvailableMessages[0].WorkflowRunID != run.ID || m.Statistics.TotalAvailableJobs != 1 {
		t.Fatalf("got %+v, %v", m, err)
	}
	s.ExpireScaleSetTokens(false)
	if got, err := session.AcquireJobs(ctx, []int64{m.JobAvailableMessages[0].RunnerRequestID, 99}); err != nil || len(got) != 1 {
		t.Fatalf("acquired %v, %v", got, err)
	}
	if err := session.DeleteMessage(ctx, m.MessageID); err != nil {
		t.Fatal(err)
	}
	if m, err = session.GetMessage(ctx, m.MessageID, 1); err != nil || len(m.JobAssignedMessages) != 1 || m.Statistics.TotalAssignedJobs != 1 {
		t.Fatalf("got %+v, %v", m, err)
	}
	if err := c.RemoveRunner(ctx, int64(made.Runner.ID)); err != nil {
		t.Error(err)
	}
	if _, err := c.GetRunner(ctx, made.Runner.ID); !errors.Is(err, scaleset.RunnerNotFoundError) {
		t.Errorf("removed, and found: %v", err)
	}
	if err := session.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := c.DeleteRunnerScaleSet(ctx, set.ID); err != nil || len(s.ScaleSets()) != 0 {
		t.Errorf("left %+v, %v", s.ScaleSets(), err)
	}
}

// TestScaleSetRefusals asks without the right to.
func TestScaleSetRefusals(t *testing.T) {
	t.Parallel()
	s, base := start(t)
	ctx := t.Context()
	c := scaleSetClient(t, base, "/acme/widget")
	set, err := c.CreateRunnerScaleSet(ctx, &scaleset.RunnerScaleSet{Name: "cvm", RunnerGroupID: 1, Labels: []scaleset.Label{{Name: "l"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := scaleSetClient(t, base, "/acme/safe").GetRunnerScaleSetByID(ctx, set.ID); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("another repository's: %v", err)
	}
	if _, err := c.CreateRunnerScaleSet(ctx, &scaleset.RunnerScaleSet{Name: "other", RunnerGroupID: 9}); err == nil {
		t.Error("created in a group that is not there")
	}
	s.ExpireScaleSetTokens(true)
	if _, err := c.GetRunnerScaleSetByID(ctx, set.ID); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("without a token: %v", err)
	}
	for _, path := range []string{"/actions/runner-registration", "/repos/acme/widget/actions/runners/registration-token"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path, strings.NewReader(`{"url":"x","runner_event":"register"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}
