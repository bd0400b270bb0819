// SPDX-License-Identifier: Apache-2.0

// Package stubrunner stands in for GitHub's self-hosted runner program, in tests and demonstrations.
//
// The program is built from cmd/stubrunner and installed as <root>/bin/Runner.Listener; it starts itself again as
// bin/Runner.Worker. It guarantees the behaviour that a supervisor of the real runner 2.336 can observe: arguments,
// files, console lines, exit codes, requests, processes, signals, hooks, environment and logs of one ephemeral job. It
// trusts GitHub's services and its registration. It knows nothing of who supervises it, and it leaves out what the
// packages below name: the download of an update, protocol version 1, JavaScript and container actions, containers.
//
// What it does, after the source of the real program:
//
//	arguments      run [--jitconfig X] [--once]; ACTIONS_RUNNER_INPUT_JITCONFIG where the argument is missing; all
//	               ACTIONS_RUNNER_INPUT_… leave the environment
//	environment    <root>/.env is loaded first; root is the parent of bin
//	registration   the blob's three files are written into root; bad → stderr, exit 1; missing → "Runner is not configured.", 1
//	token          PS256 client assertion; invalid_client → 1
//	session        409 → again every 30 s for 4 min, then 5; 403 → 1
//	poll           RunnerNotFound → 0; RunnerVersionTooOld → 1, or 7 with ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE=1;
//	               RunnerSessionInvalid → a new session; HostedRunnerDeprovisioned → 0; ten errors in a row → 2
//	offer          acknowledge: job not found → 0; acquirejob 404, 409 or 422 of the run service → listens on (a ghost)
//	renewal        before the Worker starts, then every minute; 404 ends the job
//	Worker         a process of its own of the same user; _diag/Runner_….log, _diag/Worker_….log, secrets masked
//	hooks          started first, completed last, both before outputs and completejob; a failing one does not stop always() steps
//	file commands  GITHUB_ENV, _PATH, _OUTPUT, _STATE, _STEP_SUMMARY, _ARTIFACTS; PATH reaches the completed hook
//	cancellation   SIGINT, 7.5 s, SIGTERM, 2.5 s, SIGKILL for the tree
//	SIGTERM        to the Listener: the job has 30 s, no completed hook, job Failed, exit 0
//	end            completejob, Worker exits 100+n, Listener 0 (100+n with ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED=1), files deleted
//	update         RunnerRefresh without DisableUpdate and without a job → 4 (3 if neither ephemeral nor --once)
//
// Fault switches are words in STUBRUNNER_FAULTS, in the environment or in <root>/.env, separated by commas; an unknown one
// ends the program with 1. Steps never see them.
//
//	crash@POINT     SIGKILLs itself
//	hang@POINT      does nothing until it is asked to stop; with ignore-sigterm, until it is killed
//	exit=N@POINT    ends with code N and cleans nothing up
//	daemon@POINT    leaves a process behind, forked twice, in a session of its own and without the job's environment; its number
//	                is in <root>/_diag/daemon.pid; it ends by itself after ten minutes
//	ignore-sigterm  the Listener is deaf to SIGTERM and SIGINT
//	ghost           takes no offer and listens on
//	no-hooks        starts the Worker without hooks
//	version=V       claims to be version V
//
//	POINT is start (configured, no session), listening, offered (acknowledged, not acquired), acquired (no Worker yet),
//	running (the Worker has the job), finished (the Worker has ended, nothing is cleaned up).
//
// Packages, in the order of dependence: expr, token, message, mask, trace, channel, proc, service, registration, action,
// worker, listener.
package stubrunner
