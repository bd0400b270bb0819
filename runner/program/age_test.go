// SPDX-License-Identifier: Apache-2.0

package program

import (
	"strings"
	"testing"
	"time"
)

func released() time.Time { return time.Date(2026, 8, 17, 0, 0, 0, 0, time.UTC) }

func TestParseRelease(t *testing.T) {
	t.Parallel()
	r, err := ParseRelease([]byte(`{"version":"2.336.0","released":"2026-08-17"}` + "\n"))
	if err != nil || r.Version != "2.336.0" || !r.Date.Equal(released()) {
		t.Errorf("got %+v, %v", r, err)
	}
	for text, why := range map[string]string{
		``: "EOF", `{}`: "day of its release is missing", `{"version":"2.336.0"}`: "day of its release is missing",
		`{"version":"2.336.0","released":""}`:                     "day of its release is missing",
		`{"released":"2026-08-17"}`:                               "not three numbers",
		`{"version":"latest","released":"2026-08-17"}`:            "not three numbers",
		`{"version":"2.336","released":"2026-08-17"}`:             "not three numbers",
		`{"version":"2.336.0\n","released":"2026-08-17"}`:         "not three numbers",
		`{"version":"2.336.0","released":"0001-01-01"}`:           "is missing",
		`{"version":"2.336.0","released":"2026-13-17"}`:           "parsing time",
		`{"version":"2.336.0","released":"2026-08-17T00:00:00Z"}`: "parsing time",
		`{"version":"2.336.0","released":1}`:                      "cannot unmarshal",
		`{"version":"2.336.0","released":"2026-08-17"} x`:         "data after",
		`{"version":"2.336.0","released":"2026-08-17"}{}`:         "data after",
		`{"version":"2.336.0","released":"2026-08-17","x":1}`:     "unknown field",
		`{"version":"` + strings.Repeat("1", maxRelease) + `"}`:   "at most",
	} {
		if r, err := ParseRelease([]byte(text)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.60q: got %+v, %v", text, r, err)
		}
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	r := Release{Version: "2.336.0", Date: released()}
	for name, tc := range map[string]struct {
		age      time.Duration
		days     int
		daysLeft int
		alarm    string
	}{
		"a date has no time of day": {-day, 0, 30, ""},
		"today":                     {0, 0, 30, ""},
		"a week":                    {7*day + time.Hour, 7, 23, ""},
		"just before the warning":   {WarnFrom - time.Nanosecond, 22, 8, ""},
		"warning":                   {WarnFrom, 23, 7, AlarmOutdatesSoon},
		"last day":                  {Lifetime - time.Nanosecond, 29, 1, AlarmOutdatesSoon},
		"over":                      {Lifetime, 30, 0, AlarmOutdated},
		"two years":                 {730 * day, 730, 0, AlarmOutdated},
	} {
		a, err := r.Age(released().Add(tc.age))
		if err != nil || a.Days != tc.days || a.DaysLeft != tc.daysLeft || a.Alarm != tc.alarm || !strings.Contains(a.Sentence, "2.336.0") {
			t.Errorf("%s: got %+v, %v", name, a, err)
		}
	}
}

// TestAgeUnknown: a version whose age cannot be told is an error, never young.
func TestAgeUnknown(t *testing.T) {
	t.Parallel()
	now := released().Add(time.Hour)
	for name, tc := range map[string]struct {
		release Release
		now     time.Time
	}{
		"nothing":         {Release{}, now},
		"no date":         {Release{Version: "2.336.0"}, now},
		"no version":      {Release{Date: released()}, now},
		"strange version": {Release{Version: "2.336.0; rm", Date: released()}, now},
		"two days early":  {Release{Version: "2.336.0", Date: released()}, released().AddDate(0, 0, -2)},
		"no clock":        {Release{Version: "2.336.0", Date: released()}, time.Time{}},
		"two years early": {Release{Version: "2.336.0", Date: released()}, released().AddDate(-2, 0, 0)},
	} {
		if a, err := tc.release.Age(tc.now); err == nil {
			t.Errorf("%s: got %+v", name, a)
		}
	}
}

func FuzzParseRelease(f *testing.F) {
	f.Add([]byte(`{"version":"2.336.0","released":"2026-08-17"}`))
	f.Add([]byte(`{"version":"2.336.0"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRelease(text)
		if err == nil && (r.Version == "" || r.Date.IsZero()) {
			t.Errorf("%q: got %+v", text, r)
		}
	})
}
