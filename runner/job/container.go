// SPDX-License-Identifier: Apache-2.0

package job

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// maxContainers bounds what all containers of one job may say together, in bytes of JSON.
const maxContainers = 16 << 10

// readContainers takes the job's container and services out of the message. What has no field in the provenance is
// refused, so that nothing about a container is left out but credentials and the values of its environment.
func (w *wireMessage) readContainers(m *Message) error {
	var err error
	if m.Container, err = readContainer("container", w.JobContainer); err != nil {
		return err
	}
	if present(w.JobServiceContainers) {
		var t templateToken
		if err := json.Unmarshal(w.JobServiceContainers, &t); err != nil || t.Type != tokenMapping {
			return undescribed("services that stand in the workflow", "services made by an expression")
		}
		for _, e := range t.Map {
			if err := m.readService(e); err != nil {
				return err
			}
		}
	}
	raw, err := json.Marshal([]any{m.Container, m.Services})
	if err != nil {
		return fmt.Errorf("encoding containers: %w", err)
	}
	if len(raw) > maxContainers {
		return undescribed(fmt.Sprintf("containers described in at most %d bytes", maxContainers), fmt.Sprintf("%d bytes", len(raw)))
	}
	return nil
}

// readService reads one service. One without an image does not run (JobExtension.cs).
func (m *Message) readService(e templateEntry) error {
	name, ok := words(e.Key)
	if !ok || name == "" || isExpression(name) {
		return undescribed("services whose names stand in the workflow", "a service with another name")
	}
	service, err := readContainer("service "+name, e.Value)
	if err != nil || service == nil {
		return err
	}
	if _, twice := m.Services[name]; twice {
		return badMessage("each service once", "one twice")
	}
	if m.Services == nil {
		m.Services = map[string]statement.Container{}
	}
	m.Services[name] = *service
	return nil
}

// readContainer reads an image or a mapping (PipelineTemplateConverter.cs); nil when there is no image, and so no container.
func readContainer(what string, raw json.RawMessage) (*statement.Container, error) {
	if !present(raw) {
		return nil, nil
	}
	if image, ok := words(raw); ok {
		if image == "" {
			return nil, nil
		}
		return &statement.Container{Image: image}, nil
	}
	var t templateToken
	if err := json.Unmarshal(raw, &t); err != nil || t.Type != tokenMapping {
		return nil, badMessage("an image or a mapping as "+what, "something else")
	}
	c, seen := new(statement.Container), map[string]bool{}
	for _, e := range t.Map {
		key, _ := words(e.Key)
		if seen[key] {
			return nil, badMessage("each key of "+what+" once", "one twice")
		}
		seen[key] = true
		if err := setContainer(c, key, e.Value); err != nil {
			return nil, fmt.Errorf("reading %.64q: %w", what, err)
		}
	}
	if c.Image == "" {
		return nil, nil
	}
	return c, nil
}

// setContainer sets one property of a container.
func setContainer(c *statement.Container, key string, value json.RawMessage) error {
	one := map[string]*string{"image": &c.Image, "options": &c.Options, "entrypoint": &c.Entrypoint, "command": &c.Command}
	list := map[string]*[]string{"ports": &c.Ports, "volumes": &c.Volumes}
	switch {
	case one[key] != nil:
		text, ok := words(value)
		if !ok {
			return badMessage("text as "+key+" of a container", "something else")
		}
		*one[key] = text
		return nil
	case list[key] != nil:
		var err error
		*list[key], err = wordList(key, value)
		return err
	case key == "env":
		var err error
		c.Env, err = wordKeys(value)
		return err
	case key == "credentials":
		return nil // of the registry; what it answers is the image
	}
	return undescribed("containers with image, options, env, ports, volumes, credentials, entrypoint and command", fmt.Sprintf("%.64q", key))
}

// wordList reads a sequence of texts; an expression that gives all of them is one of them.
func wordList(key string, raw json.RawMessage) ([]string, error) {
	if !present(raw) {
		return nil, nil
	}
	if text, ok := words(raw); ok && isExpression(text) {
		return []string{text}, nil
	}
	var t templateToken
	if err := json.Unmarshal(raw, &t); err != nil || t.Type != tokenSequence {
		return nil, badMessage("a list as "+key+" of a container", "something else")
	}
	var out []string
	for _, item := range t.Seq {
		text, ok := words(item)
		if !ok {
			return nil, badMessage("a list of texts as "+key+" of a container", "something else")
		}
		out = append(out, text)
	}
	return out, nil
}

// wordKeys reads the keys of a mapping, sorted.
func wordKeys(raw json.RawMessage) ([]string, error) {
	if !present(raw) {
		return nil, nil
	}
	if text, ok := words(raw); ok && isExpression(text) {
		return []string{text}, nil
	}
	var t templateToken
	if err := json.Unmarshal(raw, &t); err != nil || t.Type != tokenMapping {
		return nil, badMessage("a mapping as env of a container", "something else")
	}
	var out []string
	for _, e := range t.Map {
		text, ok := words(e.Key)
		if !ok {
			return nil, badMessage("names in env of a container", "something else")
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out, nil
}

// words reads a scalar token: text, number, truth value or expression as it stands in the workflow.
func words(raw json.RawMessage) (string, bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return "", false
	}
	if raw[0] != '{' {
		return bare(raw)
	}
	var t templateToken
	if json.Unmarshal(raw, &t) != nil {
		return "", false
	}
	switch t.Type {
	case tokenString:
		return t.Lit, true
	case tokenExpression:
		return expression(t.Expr), true
	case tokenInsert:
		return expression(t.Directive), true
	case tokenBoolean, tokenNumber:
		return bare(append(bytes.TrimSpace(t.Bool), bytes.TrimSpace(t.Num)...))
	}
	return "", false
}

// bare reads a scalar that stands without its type (TemplateTokenJsonConverter.cs). null is nothing.
func bare(raw []byte) (string, bool) {
	var v any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if dec.Decode(&v) != nil {
		return "", false
	}
	switch v := v.(type) {
	case string:
		return v, true
	case bool, json.Number:
		return fmt.Sprint(v), true
	}
	return "", false
}

func expression(source string) string { return "${{ " + source + " }}" }

// isExpression reports whether a text is an expression's, or holds one. A literal that looks like one is taken for one.
func isExpression(text string) bool { return strings.Contains(text, "${{") }

// containersWanted refuses containers where the profile of the sandbox starts none.
func (m *Message) containersWanted(allowed bool) error {
	if allowed || m.Container == nil && len(m.Services) == 0 {
		return nil
	}
	return &refusal.Refusal{
		Link: link, Code: refusal.Policy, Want: "a job without container and services: this runner's profile starts no containers",
		Got: "one with them", Next: "run the job on a runner of profile docker, or without container: and services:.",
	}
}

func undescribed(want, got string) error {
	return &refusal.Refusal{
		Link: link, Code: refusal.Policy, Want: want, Got: got, Next: "write the job so that provenance can describe it completely.",
	}
}
