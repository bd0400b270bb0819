// SPDX-License-Identifier: Apache-2.0

package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	jsoncanonicalizer "github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
)

// The type numbers of context data (PipelineContextDataType.cs).
const (
	dataString        = 0
	dataArray         = 1
	dataDictionary    = 2
	dataBoolean       = 3
	dataNumber        = 4
	dataCaseSensitive = 5
)

var errContext = errors.New("not context data of the runner")

// contextValue turns context data into plain values: string, bool, float64, nil, []any, map[string]any. In its wire
// form a dictionary is {"t":2,"d":[{"k":…,"v":…}]} and an array {"t":1,"a":[…]} (PipelineContextDataJsonConverter.cs).
func contextValue(raw json.RawMessage) (any, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return nil, errContext
	}
	if raw[0] != '{' {
		return scalar(raw)
	}
	var w struct {
		Type    int               `json:"t"`
		Array   []json.RawMessage `json:"a"`
		Entries []contextEntry    `json:"d"`
		String  string            `json:"s"`
		Boolean bool              `json:"b"`
		Number  float64           `json:"n"`
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		return nil, errContext
	}
	switch w.Type {
	case dataString:
		return w.String, nil
	case dataBoolean:
		return w.Boolean, nil
	case dataNumber:
		return w.Number, nil
	case dataArray:
		return array(w.Array)
	case dataDictionary, dataCaseSensitive:
		return dictionary(w.Entries, w.Type == dataDictionary)
	}
	return nil, errContext
}

type contextEntry struct {
	Key   *string         `json:"k"`
	Value json.RawMessage `json:"v"`
}

func scalar(raw json.RawMessage) (any, error) {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, errContext
	}
	if _, list := v.([]any); list {
		return nil, errContext
	}
	return v, nil
}

func array(items []json.RawMessage) ([]any, error) {
	out := make([]any, 0, len(items))
	for _, item := range items {
		v, err := contextValue(item)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// dictionary refuses two entries of one key: the runner does, too, and compares keys without regard to case.
func dictionary(entries []contextEntry, fold bool) (map[string]any, error) {
	out := make(map[string]any, len(entries))
	seen := make(map[string]bool, len(entries))
	for _, e := range entries {
		if e.Key == nil || len(e.Value) == 0 {
			return nil, errContext
		}
		key := *e.Key
		if fold {
			key = strings.ToUpper(key)
		}
		if seen[key] {
			return nil, fmt.Errorf("%w: key %.64q twice", errContext, *e.Key)
		}
		seen[key] = true
		v, err := contextValue(e.Value)
		if err != nil {
			return nil, err
		}
		out[*e.Key] = v
	}
	return out, nil
}

// readContexts takes what is needed out of the message's contexts.
func (m *Message) readContexts(data map[string]json.RawMessage) error {
	var err error
	if m.GitHub, err = contextMap(data, "github"); err != nil {
		return err
	}
	if m.GitHub == nil {
		return badMessage("the github context", "a job message without")
	}
	if m.Inputs, err = contextMap(data, "inputs"); err != nil {
		return err
	}
	if m.Matrix, err = contextMap(data, "matrix"); err != nil {
		return err
	}
	vars, err := contextMap(data, "vars")
	if err != nil {
		return err
	}
	if m.Vars, err = stringsOf(vars); err != nil {
		return err
	}
	needs, err := contextMap(data, "needs")
	if err != nil {
		return err
	}
	if m.Needs, err = sorted(needs); err != nil {
		return err
	}
	return m.splitContexts(data)
}

// splitContexts takes the event out of the github context, and the check run out of the job context.
func (m *Message) splitContexts(data map[string]json.RawMessage) error {
	event, ok := m.GitHub["event"].(map[string]any)
	if !ok {
		return badMessage("an event in the github context", "a job message without")
	}
	delete(m.GitHub, "event")
	var err error
	if m.Event, err = sorted(event); err != nil {
		return err
	}
	job, err := contextMap(data, "job")
	if err != nil {
		return err
	}
	if id, ok := job["check_run_id"]; ok {
		if m.CheckRunID, ok = identifier(id); !ok {
			return badMessage("an identifier as job.check_run_id", "another value")
		}
	}
	return nil
}

// contextMap reads one context; nil when it is absent, null or empty.
func contextMap(data map[string]json.RawMessage, name string) (map[string]any, error) {
	raw, ok := data[name]
	if !ok {
		return nil, nil
	}
	v, err := contextValue(raw)
	if err != nil {
		return nil, badMessage("the context "+name+" as context data", "something else").Because(err)
	}
	if v == nil {
		return nil, nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, badMessage("the context "+name+" as a dictionary", "another value")
	}
	if len(m) == 0 {
		return nil, nil
	}
	return m, nil
}

func stringsOf(m map[string]any) (map[string]string, error) {
	if m == nil {
		return nil, nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		s, ok := v.(string)
		if !ok {
			return nil, badMessage("strings in the context vars", "another value")
		}
		out[k] = s
	}
	return out, nil
}

// sorted encodes a context canonically (RFC 8785), so that its digest depends on its values alone; nil for an empty one.
func sorted(m map[string]any) ([]byte, error) {
	if len(m) == 0 {
		return nil, nil
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding a context: %w", err)
	}
	canonical, err := jsoncanonicalizer.Transform(raw)
	if err != nil {
		return nil, fmt.Errorf("encoding a context: %w", err)
	}
	return canonical, nil
}

// identifier reads an id that is a decimal string or a number; .NET writes a whole number as 41000000001.0.
func identifier(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		if _, err := strconv.ParseUint(v, 10, 63); err == nil {
			return v, true
		}
	case float64:
		if v == math.Trunc(v) && v > 0 && v < 1<<53 {
			return strconv.FormatInt(int64(v), 10), true
		}
	}
	return "", false
}
