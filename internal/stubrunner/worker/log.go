// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bytes"
	"strings"
	"sync"
	"time"

	"github.com/kettle/attest/internal/stubrunner/service"
)

const (
	logStamp           = "2006-01-02T15:04:05.0000000Z"
	maxIssues          = 10 // of each level, for one step
	maxIssueText       = 4096
	maxLog       int64 = 256 << 20
)

// jobLog collects the lines of all steps.
type jobLog struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines int
}

func (l *jobLog) write(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if int64(l.text.Len()) > maxLog {
		return
	}
	for part := range strings.SplitSeq(line, "\n") {
		l.text.WriteString(time.Now().UTC().Format(logStamp) + " " + strings.TrimSuffix(part, "\r") + "\n")
		l.lines++
	}
}

func (l *jobLog) content() ([]byte, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.text.Bytes()), l.lines
}

// stepLog collects the lines and annotations of one step; each line also goes to the job's log.
type stepLog struct {
	jobLog
	parent      *jobLog
	mask        func(string) string
	number      int
	annotations []service.Annotation
}

func (l *stepLog) write(line string) {
	line = l.mask(line)
	l.jobLog.write(line)
	l.parent.write(line)
}

// issue records an annotation and writes it with its tag.
func (l *stepLog) issue(a service.Annotation, tag string) {
	l.write(tag + a.Message)
	a.Message = l.mask(a.Message)
	if len(a.Message) > maxIssueText {
		a.Message = strings.ToValidUTF8(a.Message[:maxIssueText], "")
	}
	if strings.TrimSpace(a.Message) == "" {
		return
	}
	same := 0
	for _, other := range l.annotations {
		if other.Level == a.Level {
			same++
		}
	}
	if same < maxIssues {
		a.StepNumber = int64(l.number)
		l.annotations = append(l.annotations, a)
	}
}
