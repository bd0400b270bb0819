// SPDX-License-Identifier: Apache-2.0

package job

import (
	"encoding/json"
	"strings"
)

// The type numbers of template tokens (TokenType.cs).
const (
	tokenString     = 0
	tokenSequence   = 1
	tokenMapping    = 2
	tokenExpression = 3
	tokenInsert     = 4
	tokenBoolean    = 5
	tokenNumber     = 6
	tokenNull       = 7
)

type wireStep struct {
	Type             any             `json:"type"`
	Name             string          `json:"name"`
	ContextName      string          `json:"contextName"`
	DisplayName      string          `json:"displayName"`
	DisplayNameToken json.RawMessage `json:"displayNameToken"`
	Reference        *wireReference  `json:"reference"`
	Inputs           json.RawMessage `json:"inputs"`
}

type wireReference struct {
	Type           any    `json:"type"` // a word, or a number in older services
	Name           string `json:"name"`
	Ref            string `json:"ref"`
	RepositoryType string `json:"repositoryType"`
	Path           string `json:"path"`
	Image          string `json:"image"`
}

// kind gives the enumeration's word for a type that is a word or a number (ActionStepDefinitionReference.cs, Step.cs).
func kind(v any, words map[float64]string) string {
	switch v := v.(type) {
	case string:
		return strings.ToLower(v)
	case float64:
		return words[v]
	}
	return ""
}

// read turns a step of the message into what it runs. A kind that is not known is refused: it could run anything.
func (w wireStep) read() (Step, error) {
	s := Step{Name: w.displayName()}
	switch kind(w.Type, map[float64]string{4: "action", 5: "backgroundstepcontrol"}) {
	case "action":
	case "backgroundstepcontrol": // waits for or cancels other steps of the list; runs nothing itself
		return s, nil
	default:
		return s, badMessage("steps of type action", "a step of another type")
	}
	if w.Reference == nil {
		return s, badMessage("steps with a reference", "a step without")
	}
	r := w.Reference
	switch kind(r.Type, map[float64]string{1: "repository", 2: "containerregistry", 3: "script"}) {
	case "script":
		s.Script = literal(lookup(w.Inputs, "script"))
	case "containerregistry":
		s.Image = r.Image
		if s.Image == "" {
			return s, badMessage("an image in each docker:// step", "none")
		}
	case "repository":
		s.Action = &ActionRef{Repository: r.Name, Ref: r.Ref, Path: r.Path, Local: strings.EqualFold(r.RepositoryType, "self")}
		if !s.Action.Local && (!ValidRepository(r.Name) || r.Ref == "") {
			return s, badMessage("a repository and a ref in each action reference", "neither or one of them")
		}
		s.Cache = s.Action.restores(w.Inputs)
	default:
		return s, badMessage("steps that are scripts, actions or images", "a step of another kind")
	}
	return s, nil
}

func (w wireStep) displayName() string {
	for _, name := range []string{literal(w.DisplayNameToken), w.DisplayName, w.ContextName, w.Name} {
		if name != "" {
			return name
		}
	}
	return ""
}

// templateToken is a template token in its object form; a bare scalar is one, too (TemplateTokenJsonConverter.cs).
type templateToken struct {
	Type      int               `json:"type"`
	Lit       string            `json:"lit"`
	Expr      string            `json:"expr"`
	Directive string            `json:"directive"`
	Bool      json.RawMessage   `json:"bool"`
	Num       json.RawMessage   `json:"num"`
	Seq       []json.RawMessage `json:"seq"`
	Map       []templateEntry   `json:"map"`
}

type templateEntry struct {
	Key   json.RawMessage `json:"Key"`
	Value json.RawMessage `json:"Value"`
}

// literal gives a scalar token's text; an expression, whose value is known only while the job runs, in its source form.
// Anything else is empty.
func literal(raw json.RawMessage) string {
	text, _ := words(raw)
	return text
}

// lookup finds a literal key of a mapping token.
func lookup(raw json.RawMessage, key string) json.RawMessage {
	var t templateToken
	if len(raw) == 0 || json.Unmarshal(raw, &t) != nil || t.Type != tokenMapping {
		return nil
	}
	for _, e := range t.Map {
		if strings.EqualFold(literal(e.Key), key) {
			return e.Value
		}
	}
	return nil
}
