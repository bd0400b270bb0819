// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/kettle/attest/internal/stubrunner/token"
)

// Job is the message a runner gets when it acquires a job.
type Job struct {
	// Type is "RunnerJobRequest".
	Type string `json:"messageType"`
	// Plan identifies the workflow run for the services.
	Plan struct {
		ID string `json:"planId"`
	} `json:"plan"`
	// ID identifies the job for the services.
	ID string `json:"jobId"`
	// DisplayName is the job's name as users see it.
	DisplayName string `json:"jobDisplayName"`
	// Outputs maps output names to expressions.
	Outputs *token.Token `json:"jobOutputs"`
	// Container and Services ask for containers.
	Container *token.Token `json:"jobContainer"`
	Services  *token.Token `json:"jobServiceContainers"`
	// Environment holds the env of the workflow and of the job.
	Environment []token.Token `json:"environmentVariables"`
	// Defaults holds the defaults of the workflow and of the job.
	Defaults []token.Token `json:"defaults"`
	// Steps are the job's steps.
	Steps []Step `json:"steps"`
	// Variables are settings and secrets.
	Variables map[string]Variable `json:"variables"`
	// ContextData are the contexts github, inputs, vars, needs, matrix, strategy and job.
	ContextData map[string]Data `json:"contextData"`
	// Mask lists what must not appear in logs.
	Mask []MaskHint `json:"mask"`
	// Resources holds the endpoints.
	Resources struct {
		Endpoints []Endpoint `json:"endpoints"`
	} `json:"resources"`
	// BillingOwnerID is sent back with the result.
	BillingOwnerID string `json:"billingOwnerId"`
	// Dependencies are the pins of a workflow's lock file.
	Dependencies []string `json:"dependencies"`
}

// Variable is one setting of a job.
type Variable struct {
	// Value is the text.
	Value string `json:"value"`
	// Secret says that the value must not appear in logs.
	Secret bool `json:"isSecret"`
}

// MaskHint is a pattern that must not appear in logs.
type MaskHint struct {
	// Type is "regex".
	Type string `json:"type"`
	// Value is the pattern.
	Value string `json:"value"`
}

// Endpoint is a service with its credential.
type Endpoint struct {
	// Name identifies the endpoint.
	Name string `json:"name"`
	// URL is its base.
	URL string `json:"url"`
	// Data are further settings, such as GenerateIdTokenUrl.
	Data map[string]string `json:"data"`
	// Authorization holds the credential under AccessToken.
	Authorization struct {
		Parameters map[string]string `json:"parameters"`
	} `json:"authorization"`
}

// Token is the endpoint's bearer token.
func (e Endpoint) Token() string { return e.Authorization.Parameters["AccessToken"] }

// Setting returns an entry of Data, found without regard to case.
func (e Endpoint) Setting(name string) string {
	for k, v := range e.Data {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// ErrNoConnection says that the message has no SystemVssConnection.
var ErrNoConnection = errors.New("the job message has no SystemVssConnection")

// System returns the endpoint of the run service.
func (j *Job) System() (Endpoint, error) {
	for _, e := range j.Resources.Endpoints {
		if strings.EqualFold(e.Name, SystemConnectionName) {
			return e, nil
		}
	}
	return Endpoint{}, ErrNoConnection
}

// Variable returns a setting's value, found without regard to case; absent is empty.
func (j *Job) Variable(name string) string {
	for k, v := range j.Variables {
		if strings.EqualFold(k, name) {
			return v.Value
		}
	}
	return ""
}

// Flag returns a setting as true or false.
func (j *Job) Flag(name string) bool {
	return strings.EqualFold(j.Variable(name), "true") || j.Variable(name) == "1"
}

// ResultsURL is the base of the results service, empty when there is none.
func (j *Job) ResultsURL() string { return j.Variable(variableResultsService) }

// LaunchURL is the base of the service that resolves actions, empty when there is none.
func (j *Job) LaunchURL() string { return j.Variable(variableLaunchService) }

// Step is one step of a job or of a composite action.
type Step struct {
	// ID identifies the step for the services.
	ID string `json:"id"`
	// Name is the step's name in GITHUB_ACTION.
	Name string `json:"name"`
	// ContextName is the name in the steps context; generated ones start with "__".
	ContextName string `json:"contextName"`
	// DisplayName is the fixed title, if there is one.
	DisplayName string `json:"displayName"`
	// DisplayNameToken is the title as written.
	DisplayNameToken *token.Token `json:"displayNameToken"`
	// Condition is the step's condition, success() included.
	Condition string `json:"condition"`
	// ContinueOnError turns a failure into a success.
	ContinueOnError *token.Token `json:"continueOnError"`
	// TimeoutInMinutes limits the step.
	TimeoutInMinutes *token.Token `json:"timeoutInMinutes"`
	// Environment is the step's env.
	Environment *token.Token `json:"environment"`
	// Inputs are an action's inputs; for a script: script, shell and workingDirectory.
	Inputs *token.Token `json:"inputs"`
	// Reference says what the step runs.
	Reference Reference `json:"reference"`
}

// SourceType says what a step runs.
type SourceType int

// The source types.
const (
	SourceUnknown SourceType = iota
	SourceRepository
	SourceContainer
	SourceScript
)

// UnmarshalJSON reads a number or a name.
func (s *SourceType) UnmarshalJSON(data []byte) error {
	var n int
	if json.Unmarshal(data, &n) == nil {
		*s = SourceType(n)
	} else {
		var name string
		if err := json.Unmarshal(data, &name); err != nil {
			return fmt.Errorf("reading source type: %w", err)
		}
		switch strings.ToLower(name) {
		case "repository":
			*s = SourceRepository
		case "containerregistry":
			*s = SourceContainer
		case "script":
			*s = SourceScript
		}
	}
	if *s < SourceRepository || *s > SourceScript {
		return fmt.Errorf("reading source type: %s is not known", data)
	}
	return nil
}

// Reference says what a step runs.
type Reference struct {
	// Type is the kind.
	Type SourceType `json:"type"`
	// Name is "owner/repo"; empty for an action of the workspace.
	Name string `json:"name"`
	// Ref is the revision asked for.
	Ref string `json:"ref"`
	// RepositoryType is "GitHub" or "self".
	RepositoryType string `json:"repositoryType"`
	// Path is the folder of the action.
	Path string `json:"path"`
	// Image is a container image.
	Image string `json:"image"`
}

// Local reports whether the action lies in the workspace.
func (r Reference) Local() bool { return strings.EqualFold(r.RepositoryType, "self") }

// String writes the reference as a workflow does: owner/repo/path@ref or ./path.
func (r Reference) String() string {
	if r.Local() {
		return r.Path
	}
	s := r.Name
	if r.Path != "" {
		s += "/" + r.Path
	}
	if r.Ref != "" {
		s += "@" + r.Ref
	}
	return s
}
