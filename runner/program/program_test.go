// SPDX-License-Identifier: Apache-2.0

package program

import (
	"fmt"
	"strings"
	"testing"
)

// TestClassify has every code of the runner program, with and without a job.
func TestClassify(t *testing.T) {
	t.Parallel()
	type want struct {
		kind  Kind
		again bool
		alarm string
	}
	both := func(w want) [2]want { return [2]want{w, w} }
	gone := want{Unknown, false, AlarmUnknownExit}
	ended := [2]want{gone, {Clean, true, ""}}
	killed := both(want{Signalled, true, AlarmKilled})
	crashed := [2]want{{Signalled, false, AlarmCrashed}, {Signalled, true, AlarmCrashed}}
	for code, tc := range map[int][2]want{ // without a job, with one
		0:   {{Lost, true, ""}, {Clean, true, ""}},
		1:   {{BadConfig, false, AlarmBadConfig}, {Lost, true, AlarmGaveUp}},
		2:   both(want{Retryable, true, ""}),
		3:   both(want{WantsUpdate, false, AlarmWantsUpdate}),
		4:   both(want{WantsUpdate, false, AlarmWantsUpdate}),
		5:   both(want{SessionConflict, true, AlarmSessionConflict}),
		6:   both(gone),
		7:   both(want{Outdated, false, AlarmOutdated}),
		100: ended, 101: ended, 102: ended, 103: ended, 104: ended,
		105: {gone, {Lost, true, AlarmGaveUp}},
		129: killed, 130: killed, 131: killed, 137: killed, 143: killed, 141: killed, 192: killed,
		132: crashed, 134: crashed, 135: crashed, 136: crashed, 139: crashed,
		-1: both(gone), -9: both(gone), 8: both(gone), 42: both(gone), 99: both(gone), 106: both(gone), 127: both(gone), 128: both(gone),
		193: both(gone), 255: both(gone), 256: both(gone), 1 << 40: both(gone),
	} {
		for i, started := range []bool{false, true} {
			e := Classify(code, started)
			if got := (want{e.Kind, e.Again, e.Alarm}); got != tc[i] || e.Code != code {
				t.Errorf("%d, started %v: got %+v, code %d", code, started, got, e.Code)
			}
		}
	}
}

// TestEveryCodeIsExplained looks at more codes than a process has.
func TestEveryCodeIsExplained(t *testing.T) {
	t.Parallel()
	kinds := map[Kind]bool{
		Clean: true, Lost: true, BadConfig: true, Retryable: true, WantsUpdate: true, SessionConflict: true, Outdated: true, Signalled: true, Unknown: true,
	}
	seen := map[Kind]bool{}
	for code := -300; code <= 300; code++ {
		for _, started := range []bool{false, true} {
			e := Classify(code, started)
			seen[e.Kind] = true
			if !kinds[e.Kind] || !strings.HasSuffix(e.Sentence, ".") || len(e.Sentence) < 40 {
				t.Errorf("%d, %v: %+v", code, started, e)
			}
			if e.Kind != Unknown && e.Source == "" {
				t.Errorf("%d, %v: no source", code, started)
			}
			if e.Kind == Clean && !started {
				t.Errorf("%d: clean without a job", code)
			}
			if e.Kind == Unknown && (e.Again || e.Alarm == "") {
				t.Errorf("%d: an unknown ending is taken lightly: %+v", code, e)
			}
			if strings.Contains(e.Sentence, "succe") {
				t.Errorf("%d: says that something succeeded: %s", code, e.Sentence)
			}
		}
	}
	if len(seen) != len(kinds) {
		t.Errorf("seen: %v", seen)
	}
}

func ExampleClassify() {
	e := Classify(7, false)
	fmt.Println(e.Kind, e.Alarm, e.Again)
	// Output: outdated runner-outdated false
}
