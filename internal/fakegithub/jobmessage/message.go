// SPDX-License-Identifier: Apache-2.0

// Package jobmessage is the body of the run service's acquirejob answer, as data.
//
// The JSON it writes is the shape that actions/runner reads into AgentJobRequestMessage (src/Sdk/DTPipelines): template
// tokens for everything the runner evaluates itself, context data for the contexts. It guarantees that shape and the order
// of keys it was given; it validates nothing and trusts its caller. Golden: testdata/jobmessage.json of package fakegithub.
package jobmessage

// Message types of the broker and the run service.
const (
	TypeJobRequest   = "RunnerJobRequest"
	TypeCancellation = "JobCancellation"
	TypeRefresh      = "RunnerRefresh"
)

// Message is one job as the runner receives it.
type Message struct {
	MessageType          string              `json:"messageType"`
	Plan                 Plan                `json:"plan"`
	Timeline             Timeline            `json:"timeline"`
	JobID                string              `json:"jobId"`
	JobDisplayName       string              `json:"jobDisplayName"`
	JobName              string              `json:"jobName"`
	RequestID            int64               `json:"requestId"`
	LockedUntil          string              `json:"lockedUntil"`
	BillingOwnerID       string              `json:"billingOwnerId"`
	FileTable            []string            `json:"fileTable"`
	Dependencies         []string            `json:"dependencies"`
	Mask                 []Mask              `json:"mask"`
	JobContainer         *Token              `json:"jobContainer"`
	JobServiceContainers *Token              `json:"jobServiceContainers"`
	JobOutputs           *Token              `json:"jobOutputs"`
	EnvironmentVariables []*Token            `json:"environmentVariables"`
	Defaults             []*Token            `json:"defaults"`
	Steps                []Step              `json:"steps"`
	Resources            Resources           `json:"resources"`
	Variables            map[string]Variable `json:"variables"`
	ContextData          map[string]Data     `json:"contextData"`
	Workspace            struct{}            `json:"workspace"`
	ActionsEnvironment   *struct{}           `json:"actionsEnvironment"`
	Snapshot             *Token              `json:"snapshot"`
}

// Plan identifies the run's orchestration plan.
type Plan struct {
	PlanID           string `json:"planId"`
	PlanType         string `json:"planType"`
	Version          int    `json:"version"`
	ArtifactURI      string `json:"artifactUri"`
	ArtifactLocation string `json:"artifactLocation"`
}

// Timeline identifies where the service files the job's records.
type Timeline struct {
	ID       string  `json:"id"`
	ChangeID int     `json:"changeId"`
	Location *string `json:"location"`
}

// Mask is one regular expression that the runner replaces by *** in logs.
type Mask struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// Variable is one service variable; the secret ones make up the secrets context.
type Variable struct {
	Value    string `json:"value"`
	IsSecret bool   `json:"isSecret,omitempty"`
}

// Resources holds the endpoints of the job.
type Resources struct {
	Endpoints []Endpoint `json:"endpoints"`
}

// EndpointName is the name of the only endpoint a job gets.
const EndpointName = "SystemVssConnection"

// Endpoint is a service connection: where renewjob and completejob go, the job's own bearer, and the URLs it may use.
type Endpoint struct {
	Name          string            `json:"name"`
	URL           string            `json:"url"`
	Authorization Authorization     `json:"authorization"`
	Data          map[string]string `json:"data"`
	IsShared      bool              `json:"isShared"`
	IsReady       bool              `json:"isReady"`
}

// Authorization carries the bearer of an endpoint under the parameter AccessToken.
type Authorization struct {
	Scheme     string            `json:"scheme"`
	Parameters map[string]string `json:"parameters"`
}

// Step is one step of the job.
type Step struct {
	Type             string    `json:"type"` // always "action"
	ID               string    `json:"id"`
	Name             string    `json:"name"`
	ContextName      string    `json:"contextName"`
	DisplayNameToken *Token    `json:"displayNameToken,omitempty"`
	Condition        string    `json:"condition"`
	ContinueOnError  *Token    `json:"continueOnError"`
	TimeoutInMinutes *Token    `json:"timeoutInMinutes"`
	Reference        Reference `json:"reference"`
	Environment      *Token    `json:"environment,omitempty"`
	Inputs           *Token    `json:"inputs,omitempty"`
}

// Reference says what a step runs: Type is "script", "repository" or "containerRegistry".
type Reference struct {
	Type           string  `json:"type"`
	Name           string  `json:"name,omitempty"`
	Ref            string  `json:"ref,omitempty"`
	RepositoryType string  `json:"repositoryType,omitempty"` // "GitHub", or "self" for an action of the workflow's own checkout
	Path           *string `json:"path,omitempty"`
	Image          string  `json:"image,omitempty"`
}
