// SPDX-License-Identifier: Apache-2.0

package stubrunner_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/stubrunner/registration"
)

const workflow = `
name: build
on:
  workflow_dispatch:
    inputs:
      who: {default: world}
      loud: {type: boolean, default: false}
env: {LEVEL: workflow, WHO: "${{ inputs.who }}"}
permissions: {contents: read, id-token: write}
jobs:
  build:
    runs-on: [self-hosted, tee]
    env: {LEVEL: job, MASCOT: "${{ vars.MASCOT }}"}
    outputs:
      said: ${{ steps.tool.outputs.said }}
      plain: ${{ steps.first.outputs.plain }}
      hidden: ${{ secrets.DEPLOY_KEY }}
    steps:
      - uses: actions/checkout@v4
      - id: first
        name: First for ${{ inputs.who }}
        shell: bash
        env: {LEVEL: step}
        run: |
          echo "level=$LEVEL who=$WHO mascot=$MASCOT repo=$GITHUB_REPOSITORY job=$GITHUB_JOB os=$RUNNER_OS ci=$CI actions=$GITHUB_ACTIONS"
          echo "token=${ACTIONS_ID_TOKEN_REQUEST_TOKEN:+set} url=${ACTIONS_ID_TOKEN_REQUEST_URL:+set} input=${ACTIONS_RUNNER_INPUT_JITCONFIG:-none}"
          test -f script.sh && test -f "$GITHUB_EVENT_PATH" && grep -q '"who"' "$GITHUB_EVENT_PATH"
          echo "plain=value" >> "$GITHUB_OUTPUT"
          { echo "MULTI<<EOF"; echo a; echo b; echo EOF; } >> "$GITHUB_ENV"
          mkdir -p tools && printf '#!/bin/sh\necho from-tools\n' > tools/mytool && chmod +x tools/mytool
          echo "$PWD/tools" >> "$GITHUB_PATH"
          echo '# Summary of hunter2.key' >> "$GITHUB_STEP_SUMMARY"
          part=s3c; echo "::add-mask::${part}r3tvalue"
          echo "masked ${part}r3tvalue ${{ secrets.DEPLOY_KEY }}"
          echo "::warning file=a.c,line=3::careful"
          echo "::group::Parts"; echo inside; echo "::endgroup::"
          printf 'x' > out.bin; echo out.bin >> "$GITHUB_ARTIFACTS"
      - run: 'echo "multi=$MULTI" && mytool && cat "$GITHUB_ARTIFACTS_LIST"'
        working-directory: tools
      - id: tool
        uses: acme/tools/greet@v1
        with: {name: "${{ inputs.who }}", extra: 1}
      - uses: ./local
      - id: soft
        continue-on-error: true
        run: exit 3
      - if: steps.soft.outcome == 'failure' && steps.soft.conclusion == 'success' && hashFiles('*.sh') != ''
        run: echo soft-was-seen
      - if: inputs.loud
        run: echo LOUD
      - if: always()
        run: echo last-step
`

func toolFiles() map[string]string {
	return map[string]string{
		"greet/action.yml": `
name: greet
inputs:
  name: {required: true}
  tone: {default: "${{ github.event_name }}"}
outputs:
  said: {value: "${{ steps.say.outputs.text }}"}
runs:
  using: composite
  steps:
    - id: say
      shell: bash
      env: {NAME: "${{ inputs.name }}"}
      run: |
        echo "text=hello $NAME (${{ inputs.tone }})" >> "$GITHUB_OUTPUT"
        test "$GITHUB_ACTION_PATH" = "${{ github.action_path }}" && "$GITHUB_ACTION_PATH/../helper.sh"
    - uses: acme/tools/inner@v1
      with: {word: "${{ steps.say.outputs.text }}"}
    - if: failure()
      shell: sh
      run: echo never
`,
		"inner/action.yml": "inputs: {word: {}}\nruns:\n  using: composite\n  steps: [{shell: sh, run: 'echo \"inner-got ${{ inputs.word }}\"'}]\n",
		"helper.sh":        "#!/bin/sh\necho helper ran\n",
	}
}

func TestWorkflow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		".github/workflows/build.yml": workflow, "script.sh": "#!/bin/sh\n",
		"local/action.yml": "runs: {using: composite, steps: [{shell: bash, run: echo local-action}]}",
	})
	w.addRepository("tools", 2, toolFiles())
	if err := w.github.AddCheckout("v4"); err != nil {
		t.Fatal(err)
	}
	w.hook("STARTED", "set -u\nenv | grep -E '^(GITHUB|RUNNER|ACTIONS|LEVEL)' > \"$HOME/started.txt\"\necho hook-started\n")
	w.hook("COMPLETED", "echo hook-completed\necho done >> \"$HOME/completed.txt\"\n")
	if err := os.WriteFile(filepath.Join(w.root, ".env"), []byte("ACTIONS_RUNNER_ALLOW_ARTIFACTS_FILE=true\nFROM_FILE=yes\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	job, l := w.run(map[string]string{"who": "mona"})
	if job.Conclusion != "success" {
		t.Errorf("conclusion %s", job.Conclusion)
	}
	if job.Outputs["said"] != "hello mona (workflow_dispatch)" || job.Outputs["plain"] != "value" || job.Outputs["hidden"] != "" {
		t.Errorf("outputs: %v", job.Outputs)
	}
	log := w.log(job)
	wants(t, "job log", log,
		"Download action repository 'acme/tools@v1'", "A job started hook has been configured", "hook-started",
		"level=step who=mona mascot=mona repo=acme/widget job=build os=Linux ci=true actions=true",
		"token=set url=set input=none", "masked *** ***", "##[warning]careful", "##[group]Parts", "inside", "##[endgroup]",
		"Captured 1 artifact subject(s)", "multi=a", "from-tools",
		`{"version":1,"subjects":[{"name":"out.bin","digest":"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","kind":"file"}]}`,
		"Unexpected input(s) 'extra'", "helper ran", "inner-got hello mona (workflow_dispatch)", "local-action",
		"##[error]Process completed with exit code 3.", "soft-was-seen", "last-step", "hook-completed", "Set output 'said'")
	lacks(t, "job log", log, "s3cr3tvalue", "hunter2.key", "LOUD", "echo never\n")
	checkNames(t, job)
	wants(t, "console", l.out.String(), "√ Connected to GitHub", "Current runner version: '2.336.0'", ": Listening for Jobs",
		": Running job: build", ": Job build completed with result: Succeeded")
	checkHookEnvironment(t, w.read("started.txt"))
	checkDiagnostics(t, w)
	if summary, ok := w.github.StepSummary(job.ID, job.Steps[3].ID); !ok || string(summary) != "# Summary of ***\n" {
		t.Errorf("summary: %q %v", summary, ok)
	}
	for _, name := range []string{registration.RunnerFile, registration.CredentialsFile, registration.KeyFile} {
		if _, err := os.Stat(filepath.Join(w.root, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
}

func checkNames(t *testing.T, job fakegithub.Job) {
	t.Helper()
	var names []string
	for _, s := range job.Steps {
		names = append(names, s.Name+"="+s.Conclusion)
	}
	wants(t, "steps", strings.Join(names, "\n"), "Set up job=success", "Set up runner=success", "Run actions/checkout@v4=success",
		"First for mona=success", "Run acme/tools/greet@v1=success", "Run ./local=success", "Run exit 3=success",
		"Run echo LOUD=skipped", "Run echo last-step=success", "Complete runner=success", "Complete job=success")
}

func checkHookEnvironment(t *testing.T, env string) {
	t.Helper()
	for _, want := range []string{
		"GITHUB_REPOSITORY=acme/widget", "GITHUB_RUN_ID=", "GITHUB_SHA=", "GITHUB_WORKFLOW_REF=acme/widget/.github/workflows/build.yml@refs/heads/main",
		"RUNNER_NAME=r1", "RUNNER_OS=Linux", "RUNNER_ENVIRONMENT=self-hosted", "RUNNER_TEMP=", "ACTIONS_ID_TOKEN_REQUEST_URL=",
		"ACTIONS_ID_TOKEN_REQUEST_TOKEN=", "GITHUB_ACTIONS=true", "RUNNER_TRACKING_ID=github_", "GITHUB_EVENT_PATH=", "GITHUB_REF_PROTECTED=",
	} {
		if !strings.Contains("\n"+env, "\n"+want) {
			t.Errorf("the hook lacks %s in:\n%s", want, env)
		}
	}
	lacks(t, "hook environment", env, "\nLEVEL=", "ACTIONS_RUNNER_INPUT_", "ACTIONS_RUNTIME_TOKEN", "GITHUB_TOKEN=", "\nGITHUB_REPOSITORYURL")
}

func checkDiagnostics(t *testing.T, w *world) {
	t.Helper()
	worker := w.read("_diag/Worker_*-utc.log")
	_, rest, ok := strings.Cut(worker, " INFO Worker] Job message:\n")
	if !ok || worker[0] != '[' {
		t.Fatalf("there is no job message in:\n%.500s", worker)
	}
	var message struct {
		JobID       string                     `json:"jobId"`
		ContextData map[string]json.RawMessage `json:"contextData"`
	}
	if err := json.NewDecoder(strings.NewReader(rest)).Decode(&message); err != nil || message.JobID == "" || message.ContextData["inputs"] == nil {
		t.Errorf("job message: %v %+v", err, message)
	}
	wants(t, "worker log", worker, "\n {\n  \"", `"value": "***"`)
	lacks(t, "worker log", worker, "hunter2.key", "ghs_")
	lacks(t, "runner log", w.read("_diag/Runner_*-utc.log"), "hunter2.key", "ghs_")
}

const hookWorkflow = `
on: workflow_dispatch
jobs:
  build:
    runs-on: tee
    steps:
      - run: echo first-step
      - if: always()
        run: echo always-step
`

func TestFailingStartedHook(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{".github/workflows/build.yml": hookWorkflow})
	w.hook("STARTED", "echo deny\nexit 4\n")
	w.hook("COMPLETED", "echo hook-completed\n")
	job, l := w.run(nil)
	if job.Conclusion != "failure" {
		t.Errorf("conclusion %s", job.Conclusion)
	}
	log := w.log(job)
	wants(t, "log", log, "deny", "##[error]Process completed with exit code 4.", "always-step", "hook-completed")
	lacks(t, "log", log, "\x1b[36;1mecho first-step")
	wants(t, "console", l.out.String(), "Job build completed with result: Failed")
	w.env = nil
}

func TestNoIdentityToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{".github/workflows/build.yml": hookWorkflow})
	w.hook("STARTED", "echo \"url=${ACTIONS_ID_TOKEN_REQUEST_URL:-none}\"\n")
	job, _ := w.run(nil)
	wants(t, "log", w.log(job), "url=none")
}

const failures = `
on: workflow_dispatch
jobs:
  build:
    runs-on: tee
    steps:
      - {id: node, continue-on-error: true, uses: acme/tools/node@v1}
      - {id: slow, continue-on-error: true, timeout-minutes: 0.02, shell: bash, run: 'trap "echo got-int; exit 1" INT; while :; do sleep 0.1; done'}
      - {id: shell, continue-on-error: true, shell: nosuchshell, run: x}
      - {id: file, continue-on-error: true, run: 'echo broken >> "$GITHUB_OUTPUT"'}
      - {id: command, continue-on-error: true, run: 'echo "::set-env name=A::b"'}
      - {id: custom, shell: 'bash -eu {0}', run: 'echo "custom $0"; sleep 300 >/dev/null 2>&1 &'}
      - {if: failure(), run: echo not-reached}
      - run: echo "${{ toJSON(steps) }}" | tr -d '\n '
      - run: exit 9
      - {run: echo skipped-now}
      - {if: failure(), run: echo on-failure}
`

func TestFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{".github/workflows/build.yml": failures})
	w.addRepository("tools", 2, map[string]string{"node/action.yml": "runs: {using: node24, main: x.js}"})
	job, _ := w.run(nil)
	if job.Conclusion != "failure" {
		t.Errorf("conclusion %s", job.Conclusion)
	}
	log := w.log(job)
	wants(t, "log", log, "this stand-in runs composite actions only: 'acme/tools/node@v1' uses 'node24'",
		"got-int", "has timed out after", "nosuchshell: command not found", "Unable to process file command 'output' successfully.",
		"Unable to process command '::set-env name=A::b' successfully.", "custom /", "file:{", "##[error]Process completed with exit code 9.",
		"on-failure", "Terminate orphan process: pid (")
	lacks(t, "log", log, "\x1b[36;1mecho not-reached", "\x1b[36;1mecho skipped-now")
}

const endless = `
on: workflow_dispatch
jobs:
  build:
    runs-on: tee
    steps:
      - shell: bash
        run: |
          trap 'echo interrupted >> "$HOME/steps.txt"; exit 7' INT
          echo ready >> "$HOME/steps.txt"
          while :; do sleep 0.05; done
      - run: echo ordinary >> "$HOME/steps.txt"
      - if: cancelled()
        run: echo cancelled >> "$HOME/steps.txt"
      - if: always()
        run: echo always >> "$HOME/steps.txt"
`

func TestCancel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{".github/workflows/build.yml": endless})
	w.hook("COMPLETED", "echo completed >> \"$HOME/steps.txt\"\n")
	run := w.dispatch(nil)
	l := w.start("run")
	w.awaitFile("steps.txt", "ready")
	w.github.Cancel(run)
	if code := l.wait(); code != 0 {
		t.Errorf("exit code %d: %s%s", code, l.out, l.err)
	}
	now := w.await(run)
	if now.Jobs[0].Conclusion != "cancelled" {
		t.Errorf("conclusion: %v", now.Jobs[0].Conclusion)
	}
	if got := w.read("steps.txt"); got != "ready\ninterrupted\ncancelled\nalways\ncompleted\n" {
		t.Errorf("steps: %q", got)
	}
	wants(t, "console", l.out.String(), "Job build completed with result: Canceled")
	wants(t, "log", w.log(now.Jobs[0]), "##[error]The operation was canceled.")
}

func TestStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{".github/workflows/build.yml": endless})
	w.hook("COMPLETED", "echo completed >> \"$HOME/steps.txt\"\n")
	run := w.dispatch(nil)
	l := w.start("run")
	w.awaitFile("steps.txt", "ready")
	if err := l.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := l.wait(); code != 0 {
		t.Errorf("exit code %d: %s%s", code, l.out, l.err)
	}
	now := w.await(run)
	if now.Jobs[0].Conclusion != "failure" {
		t.Errorf("conclusion: %v", now.Jobs[0].Conclusion)
	}
	if got := w.read("steps.txt"); got != "ready\ninterrupted\n" {
		t.Errorf("steps: %q", got)
	}
}
