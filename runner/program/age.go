// SPDX-License-Identifier: Apache-2.0

package program

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// How long GitHub lets a runner program be used that does not update itself, and when to begin to say so. GitHub counts
// from the release of a newer version, which an environment does not know; counting from the own release never says it
// too late.
const (
	Lifetime = 30 * 24 * time.Hour
	WarnFrom = 23 * 24 * time.Hour
)

// clockSlack is how far a release may lie in the future: a date has no time of day.
const clockSlack = 24 * time.Hour

// maxRelease bounds the file that says which version an image holds.
const maxRelease = 4 << 10

var versionPattern = regexp.MustCompile(`^[0-9]{1,4}\.[0-9]{1,6}\.[0-9]{1,6}$`)

// Release is a version of the runner program, as measured in the image.
type Release struct {
	Version string
	Date    time.Time // the day of its release, UTC
}

// ParseRelease reads {"version":"2.336.0","released":"2026-08-17"}. A version without its day of release is refused: its
// age would be unknown, and the first to notice would be GitHub.
func ParseRelease(text []byte) (Release, error) {
	var v struct {
		Version  string `json:"version"`
		Released string `json:"released"`
	}
	if len(text) > maxRelease {
		return Release{}, fmt.Errorf("reading the runner program's version: %d bytes, at most %d are allowed", len(text), maxRelease)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return Release{}, fmt.Errorf("reading the runner program's version: %w", err)
	}
	if len(bytes.TrimSpace(text[dec.InputOffset():])) > 0 {
		return Release{}, errors.New("reading the runner program's version: data after the value")
	}
	if v.Released == "" {
		return Release{}, errors.New(`reading the runner program's version: the day of its release is missing; ` +
			`write "released":"YYYY-MM-DD" when the image is built`)
	}
	day, err := time.Parse(time.DateOnly, v.Released)
	if err != nil {
		return Release{}, fmt.Errorf("reading the day of the runner program's release: %w", err)
	}
	r := Release{Version: v.Version, Date: day}
	return r, r.validate()
}

func (r Release) validate() error {
	if !versionPattern.MatchString(r.Version) {
		return fmt.Errorf("the runner program's version %.40q is not three numbers", r.Version)
	}
	if r.Date.IsZero() {
		return errors.New("the day of the runner program's release is missing, so that its age is unknown; " +
			"build the image with the release's date")
	}
	return nil
}

// Age is how long a version may still be used.
type Age struct {
	Days     int    // since the release
	DaysLeft int    // of GitHub's 30; 0 when they are over
	Alarm    string // empty, [AlarmOutdatesSoon] or [AlarmOutdated]
	Sentence string // for operators
}

// Age says how old the version is. A release that is absent, malformed or in the future is an error, not a young version.
func (r Release) Age(now time.Time) (Age, error) {
	if err := r.validate(); err != nil {
		return Age{}, err
	}
	age := now.Sub(r.Date)
	if age < -clockSlack {
		return Age{}, fmt.Errorf("the runner program %s is of %s and it is %s here: the clock or the date is wrong",
			r.Version, r.Date.UTC().Format(time.DateOnly), now.UTC().Format(time.DateOnly))
	}
	const day = 24 * time.Hour
	a := Age{Days: int(max(age, 0) / day)}
	a.DaysLeft = max(0, int(Lifetime/day)-a.Days)
	switch {
	case age >= Lifetime:
		a.Alarm = AlarmOutdated
		a.Sentence = fmt.Sprintf("The runner program %s is %d days old. GitHub lets a version be used for 30 days after a newer one is released: "+
			"expect it to be refused, and replace the image now.", r.Version, a.Days)
	case age >= WarnFrom:
		a.Alarm = AlarmOutdatesSoon
		a.Sentence = fmt.Sprintf("The runner program %s is %d days old and may be refused in %s: build an image with the newest version of actions/runner.",
			r.Version, a.Days, days(a.DaysLeft))
	default:
		a.Sentence = fmt.Sprintf("The runner program %s may be used for %s at least.", r.Version, days(a.DaysLeft))
	}
	return a, nil
}

func days(n int) string {
	if n == 1 {
		return "1 day"
	}
	return fmt.Sprintf("%d days", n)
}
