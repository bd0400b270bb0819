// SPDX-License-Identifier: Apache-2.0

package scaleset

import (
	"encoding/json"
	"testing"
)

// FuzzMessage gives messages of anyone's choice to the client library and to what listens to it.
func FuzzMessage(f *testing.F) {
	f.Add(`[{"messageType":"JobStarted","runnerId":7,"runnerName":"k","workflowRunId":1}]`)
	f.Add(`[{"messageType":"JobAvailable","runnerRequestId":5},{"messageType":"JobCompleted"},null,{}]`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, body string) {
		raw, err := json.Marshal(map[string]any{"messageId": 1, "messageType": "RunnerScaleSetJobMessages", "body": body, "statistics": map[string]int{}})
		if err != nil {
			t.Skip()
		}
		l, done := scripted(t, string(raw))
		defer done()
		_ = l.next(t.Context())
		if a, told := l.registrar.Announced(); told && a.RunnerID != 7 && a.RunnerName != "k" {
			t.Fatalf("announced %+v", a)
		}
	})
}

// FuzzAnswer gives whole answers of anyone's choice.
func FuzzAnswer(f *testing.F) {
	f.Add(`{"messageId":1,"messageType":"RunnerScaleSetJobMessages","body":"[]"}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, answer string) {
		l, done := scripted(t, answer)
		defer done()
		_ = l.next(t.Context())
	})
}
