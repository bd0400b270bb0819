// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"os"
	"strings"
	"testing"

	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/channel"
	"github.com/kettle/attest/runner/program"
)

// TestDocumented: every word that an operator may meet is in docs/operations.md, and each alarm has its page.
func TestDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	var want []string
	for _, a := range Alarms() {
		want = append(want, "\n### "+string(a)+"\nMeans: ")
	}
	for _, h := range Hows() {
		want = append(want, "\n| `"+string(h)+"` | ")
	}
	for _, s := range states() {
		if s != other {
			want = append(want, "\n| `"+s+"` | ")
		}
	}
	for _, s := range []Step{Starting, Following, Reaping, Reaped, Left} {
		want = append(want, "\n| `"+string(s)+"` | ")
	}
	for line := range strings.SplitSeq(exposition(t, NewMetrics(target())), "\n") {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok && (strings.HasPrefix(name, "gha_") || strings.HasPrefix(name, "kettle_")) {
			name, _, _ = strings.Cut(name, " ")
			want = append(want, "`"+name)
		}
	}
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("docs/operations.md lacks %q", w)
		}
	}
}

// TestAlarmsAreKnown: the words that the supervisor uses are those that a launcher knows.
func TestAlarmsAreKnown(t *testing.T) {
	t.Parallel()
	words := []channel.Alarm{
		channel.Alarm(runner.AlarmDenied), channel.Alarm(runner.AlarmDeregister), channel.Alarm(runner.AlarmSink), channel.Alarm(runner.AlarmGitHub),
		program.AlarmBadConfig, program.AlarmGaveUp, program.AlarmWantsUpdate, program.AlarmSessionConflict, program.AlarmOutdated,
		program.AlarmOutdatesSoon, program.AlarmKilled, program.AlarmCrashed, program.AlarmUnknownExit,
	}
	for word, holds := range alarmWords(words) {
		if word == other && holds {
			t.Error("a word of the supervisor is not known")
		}
	}
}
