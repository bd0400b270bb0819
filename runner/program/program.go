// SPDX-License-Identifier: Apache-2.0

// Package program knows GitHub's runner program (actions/runner, Runner.Listener) from outside: what its exit codes mean,
// how old a version may grow, and what it says on its standard output.
//
// It guarantees that every exit code has exactly one meaning, and that a code which is not in the table is an unknown
// ending, never a good one. No ending here says that a job succeeded: four different endings of the program are code 0,
// whoever controls the sandbox can choose the code, and only GitHub's own answer tells a job's result.
//
// It trusts nothing that the program says or does; [Watch] gives hints for operators and decides nothing. It trusts the
// version and the date that it is given: they come from the measured image. The places in the source are those of
// version 2.336.0.
package program

import "fmt"

// Kind is how the runner program ended.
type Kind string

// The kinds of endings. The zero value is none of them.
const (
	Clean           Kind = "clean"            // it ended after its job
	Lost            Kind = "lost"             // registration gone, token revoked, job not found, or stopped
	BadConfig       Kind = "bad-config"       // it refuses what it was given
	Retryable       Kind = "retryable"        // it could not go on, and another may
	WantsUpdate     Kind = "wants-update"     // it left in order to update itself
	SessionConflict Kind = "session-conflict" // somebody else speaks for this registration
	Outdated        Kind = "outdated"         // GitHub refuses its version
	Signalled       Kind = "signalled"        // a signal killed it
	Unknown         Kind = "unknown"          // anything else: a failure
)

// Alarms that the endings raise; each has a page for operators.
const (
	AlarmBadConfig       = "runner-bad-config"
	AlarmGaveUp          = "runner-gave-up"
	AlarmWantsUpdate     = "runner-wants-update"
	AlarmSessionConflict = "runner-session-conflict"
	AlarmOutdated        = "runner-outdated"
	AlarmOutdatesSoon    = "runner-outdates-soon"
	AlarmKilled          = "runner-killed"
	AlarmCrashed         = "runner-crashed"
	AlarmUnknownExit     = "runner-unknown-exit"
)

// Ending is what an exit code of the runner program means.
type Ending struct {
	Kind     Kind
	Code     int
	Sentence string // for operators: what happened, and what to do
	Again    bool   // whether another environment may simply be tried
	Alarm    string // empty when nobody has to act
	Source   string // where in actions/runner the code comes from
}

// Classify says what the exit code means. started says that the job's started hook was heard, so that the program had a
// job. A negative code means that nobody knows how it ended.
func Classify(code int, started bool) Ending {
	e, ok := ending(code, started)
	if !ok {
		e = Ending{
			Kind: Unknown, Alarm: AlarmUnknownExit,
			Sentence: "The runner program ended in a way that is not known: treat it as a failure and read console.log and its _diag " +
				"in the diagnostics. A new version of the runner program may have new codes.",
		}
		if code < 0 {
			e.Sentence = "How the runner program ended was not seen: treat it as a failure and read the log of kettled in the diagnostics."
		}
	}
	e.Code = code
	return e
}

func ending(code int, started bool) (Ending, bool) {
	switch {
	case code == exitSuccess && started:
		return Ending{
			Kind: Clean, Again: true, Source: "Runner.Listener/Runner.cs:602",
			Sentence: "The runner program ended after its job. What became of the job is for GitHub to say.",
		}, true
	case code == exitTerminated && started:
		return Ending{
			Kind: Lost, Again: true, Alarm: AlarmGaveUp, Source: "Runner.Listener/Program.cs:134-153, Runner.cs:598",
			Sentence: "The runner program gave up although it had a job, so the job counts as failed. Read console.log and the last " +
				"Runner_ log in the diagnostics, and run the job again.",
		}, true
	case code >= exitResult && code <= exitResult+lastResult:
		return result(code-exitResult, started)
	case code > exitSignal && code <= exitSignal+lastSignal:
		return signalled(code-exitSignal, started), true
	}
	e, ok := table()[code]
	return e, ok
}

// The exit codes (Runner.Common/Constants.cs, ReturnCode), and where ranges of them begin.
const (
	exitSuccess    = 0
	exitTerminated = 1
	exitRetryable  = 2
	exitUpdating   = 3
	exitUpdating1  = 4 // in a runner that takes one job
	exitConflict   = 5
	exitRefreshed  = 6
	exitDeprecated = 7

	exitResult = 100 // and the job's result (Runner.Common/Util/TaskResultUtil.cs)
	lastResult = 5
	exitSignal = 128 // and the signal's number, as shells and container runtimes say it
	lastSignal = 64
)

// table has the codes that mean one thing, whether or not there was a job, and 0 and 1 without one.
func table() map[int]Ending {
	update := Ending{
		Kind: WantsUpdate, Alarm: AlarmWantsUpdate, Source: "Runner.Listener/Runner.cs:552-558",
		Sentence: "The runner program left in order to update itself, which a measured image cannot take part in, although its " +
			"configuration forbids updates. Build an image with the newest version of actions/runner and replace this one.",
	}
	return map[int]Ending{
		exitSuccess: {
			Kind: Lost, Again: true, Source: "Runner.Listener/Runner.cs:699-704, 789, 823-830, 890-899, Program.cs:129-133",
			Sentence: "The runner program ended without a job: its registration was removed, its token was revoked, the job was gone " +
				"before it could take it, or it was told to stop. Nothing has to be done unless this repeats.",
		},
		exitTerminated: {
			Kind: BadConfig, Alarm: AlarmBadConfig,
			Source: "Runner.Listener/Runner.cs:266, 283, 425, 484, BrokerMessageListener.cs:191-207, Program.cs:134-153",
			Sentence: "The runner program refused to start: its configuration, its work folder, its session or its credential was not " +
				"accepted. Read console.log in the diagnostics; trying again with the same image and the same group and labels will " +
				"end the same way.",
		},
		exitRetryable: {
			Kind: Retryable, Again: true, Source: "Runner.Listener/Program.cs:154-159, BrokerMessageListener.cs:358-369",
			Sentence: "The runner program could not go on, most often because GitHub did not answer ten times in a row. Another " +
				"environment may be tried; if this repeats, look at the network and at GitHub's status page.",
		},
		exitUpdating: update, exitUpdating1: update,
		exitConflict: {
			Kind: SessionConflict, Again: true, Alarm: AlarmSessionConflict,
			Source: "Runner.Listener/BrokerMessageListener.cs:36-37, 474-487, Runner.cs:478-480",
			Sentence: "For four minutes another program held the session of this registration, which nobody else should have. If it was " +
				"not an earlier try of this environment, its configuration has leaked: remove the runner and look for who used it.",
		},
		exitRefreshed: {
			Kind: Unknown, Alarm: AlarmUnknownExit, Source: "Runner.Listener/Runner.cs:902-922",
			Sentence: "The runner program ended with a code that it uses only inside itself. Treat it as a failure, read its _diag in the " +
				"diagnostics, and check that the image holds GitHub's own runner program.",
		},
		exitDeprecated: {
			Kind: Outdated, Alarm: AlarmOutdated, Source: "Runner.Listener/Program.cs:142-147, 162-170",
			Sentence: "GitHub refuses this version of the runner program as too old. Build an image with the newest version of " +
				"actions/runner. GitHub has refused its newest version by mistake before, so trying again every hour does no harm.",
		},
	}
}

// result is the ending of a program that was told to say its job's result. The environment never tells it to, and the
// job can choose the code, so the result in it is not passed on.
func result(n int, started bool) (Ending, bool) {
	if !started {
		return Ending{}, false
	}
	e := Ending{
		Kind: Clean, Again: true, Source: "Runner.Listener/Runner.cs:327-331, 587-600, Runner.Common/Util/TaskResultUtil.cs:8-19",
		Sentence: "The runner program ended after its job, with a code that is meant for GitHub's own machines. What became of the " +
			"job is for GitHub to say.",
	}
	if n == lastResult {
		e.Kind, e.Alarm = Lost, AlarmGaveUp
		e.Sentence = "The runner program ended and says that GitHub had given its job up. Run the job again; if this repeats, look at the network."
	}
	return e, true
}

// signalled is the ending of a program that a signal killed.
func signalled(n int, started bool) Ending {
	const (
		quit, ill, abrt, bus, fpe, kill, segv, term = 3, 4, 6, 7, 8, 9, 11, 15
	)
	e := Ending{Kind: Signalled, Again: true, Alarm: AlarmKilled, Source: "signal(7)"}
	switch n {
	case ill, abrt, bus, fpe, segv:
		e.Alarm, e.Again = AlarmCrashed, started
		e.Sentence = fmt.Sprintf("The runner program crashed (signal %d). Without a job before, the image lacks something that it needs: "+
			"read console.log in the diagnostics. With a job, run the job again.", n)
	case kill:
		e.Sentence = "The runner program was killed (signal 9). If kettled did not end it, it wanted more memory than sandbox.limits.memoryMiB: " +
			"look for the kernel's word on it in kernel.log of the diagnostics."
	case term, quit, 1, 2:
		e.Sentence = fmt.Sprintf("The runner program was told to end (signal %d) and did so at once. If kettled did not tell it, the job did.", n)
	default:
		e.Sentence = fmt.Sprintf("The runner program was ended by signal %d. If kettled did not send it, the job did.", n)
	}
	return e
}
