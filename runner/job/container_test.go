// SPDX-License-Identifier: Apache-2.0

package job

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// full is a container with everything that one can have, in the form of the runner's log.
const full = `{"type":2,"file":1,"line":9,"col":7,"map":[
	{"Key":{"type":0,"lit":"image"},"Value":{"type":3,"expr":"format('{0}:1', matrix.os)"}},
	{"Key":"options","Value":{"type":0,"lit":"--cpus 1 --privileged"}},
	{"Key":"env","Value":{"type":2,"map":[{"Key":"TOKEN","Value":{"type":3,"expr":"secrets.A"}},{"Key":"B","Value":"x"},{"Key":{"type":4,"directive":"insert"},"Value":{"type":3,"expr":"matrix.env"}}]}},
	{"Key":"ports","Value":{"type":1,"seq":[{"type":6,"num":80},"8080:81",443]}},
	{"Key":"volumes","Value":{"type":1,"seq":[{"type":0,"lit":"/run/kettle:/run/kettle"}]}},
	{"Key":"credentials","Value":{"type":2,"map":[{"Key":"username","Value":"robot"},{"Key":"password","Value":{"type":3,"expr":"secrets.REGISTRY"}}]}}]}`

func TestContainers(t *testing.T) {
	t.Parallel()
	described := statement.Container{
		Image: "${{ format('{0}:1', matrix.os) }}", Options: "--cpus 1 --privileged", Env: []string{"${{ insert }}", "B", "TOKEN"},
		Ports: []string{"80", "8080:81", "443"}, Volumes: []string{"/run/kettle:/run/kettle"},
	}
	for name, tc := range map[string]struct {
		part, value string
		container   *statement.Container
		services    map[string]statement.Container
	}{
		"none":              {"jobContainer", `null`, nil, nil},
		"null token":        {"jobContainer", `{"type":7,"line":1}`, nil, nil},
		"empty image":       {"jobContainer", `""`, nil, nil},
		"no image":          {"jobContainer", `{"type":2,"map":[{"Key":"options","Value":"x"}]}`, nil, nil},
		"image":             {"jobContainer", `"alpine:3"`, &statement.Container{Image: "alpine:3"}, nil},
		"image with place":  {"jobContainer", `{"type":0,"line":3,"lit":"alpine:3"}`, &statement.Container{Image: "alpine:3"}, nil},
		"expression":        {"jobContainer", `{"type":3,"expr":"fromJSON(matrix.c)"}`, &statement.Container{Image: "${{ fromJSON(matrix.c) }}"}, nil},
		"everything":        {"jobContainer", full, &described, nil},
		"lists by matrix":   {"jobContainer", `{"type":2,"map":[{"Key":"image","Value":"a"},{"Key":"env","Value":{"type":3,"expr":"matrix.e"}},{"Key":"ports","Value":{"type":3,"expr":"matrix.p"}},{"Key":"volumes","Value":null}]}`, &statement.Container{Image: "a", Env: []string{"${{ matrix.e }}"}, Ports: []string{"${{ matrix.p }}"}}, nil},
		"no services":       {"jobServiceContainers", `{"type":2}`, nil, nil},
		"services":          {"jobServiceContainers", `{"type":2,"map":[{"Key":"db","Value":` + full + `},{"Key":{"type":0,"lit":"off"},"Value":""},{"Key":"mq","Value":"rabbit"}]}`, nil, map[string]statement.Container{"db": described, "mq": {Image: "rabbit"}}},
		"service's command": {"jobServiceContainers", `{"type":2,"map":[{"Key":"db","Value":{"type":2,"map":[{"Key":"image","Value":"pg"},{"Key":"entrypoint","Value":"/x"},{"Key":"command","Value":"-c y"}]}}]}`, nil, map[string]statement.Container{"db": {Image: "pg", Entrypoint: "/x", Command: "-c y"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := parseMessage([]byte(with(tc.part, tc.value)))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.container, m.Container) + cmp.Diff(tc.services, m.Services); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestContainersRefused(t *testing.T) {
	t.Parallel()
	one := func(property string) string { return `{"type":2,"map":[{"Key":"image","Value":"a"},` + property + `]}` }
	for name, tc := range map[string]struct {
		part, value string
		want        error
	}{
		"number":             {"jobContainer", `{"type":9}`, refusal.ErrMalformed},
		"list":               {"jobContainer", `{"type":1,"seq":["a"]}`, refusal.ErrMalformed},
		"unknown property":   {"jobContainer", one(`{"Key":"runtime","Value":"x"}`), refusal.ErrPolicy},
		"inserted property":  {"jobContainer", one(`{"Key":{"type":4,"directive":"insert"},"Value":{"type":3,"expr":"matrix.c"}}`), refusal.ErrPolicy},
		"property twice":     {"jobContainer", one(`{"Key":"image","Value":"b"}`), refusal.ErrMalformed},
		"options as a list":  {"jobContainer", one(`{"Key":"options","Value":{"type":1}}`), refusal.ErrMalformed},
		"ports as text":      {"jobContainer", one(`{"Key":"ports","Value":"80"}`), refusal.ErrMalformed},
		"port as a mapping":  {"jobContainer", one(`{"Key":"ports","Value":{"type":1,"seq":[{"type":2}]}}`), refusal.ErrMalformed},
		"env as a list":      {"jobContainer", one(`{"Key":"env","Value":{"type":1}}`), refusal.ErrMalformed},
		"env with a list":    {"jobContainer", one(`{"Key":"env","Value":{"type":2,"map":[{"Key":{"type":1},"Value":"x"}]}}`), refusal.ErrMalformed},
		"services by matrix": {"jobServiceContainers", `{"type":3,"expr":"fromJSON(matrix.s)"}`, refusal.ErrPolicy},
		"service by matrix":  {"jobServiceContainers", `{"type":2,"map":[{"Key":{"type":4,"directive":"insert"},"Value":{"type":3,"expr":"matrix.c"}}]}`, refusal.ErrPolicy},
		"service by name":    {"jobServiceContainers", `{"type":2,"map":[{"Key":{"type":3,"expr":"matrix.n"},"Value":"x"}]}`, refusal.ErrPolicy},
		"service without":    {"jobServiceContainers", `{"type":2,"map":[{"Key":"","Value":"x"}]}`, refusal.ErrPolicy},
		"service twice":      {"jobServiceContainers", `{"type":2,"map":[{"Key":"a","Value":"x"},{"Key":"a","Value":"y"}]}`, refusal.ErrMalformed},
		"too much":           {"jobContainer", one(`{"Key":"options","Value":"` + strings.Repeat("x", maxContainers) + `"}`), refusal.ErrPolicy},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := parseMessage([]byte(with(tc.part, tc.value))); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// TestContainersStand shows a job with containers in its provenance: parameters, dependencies and who vouches for them.
func TestContainersStand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.containers = true
	digest := strings.Repeat("ab", 32)
	w.edit(`"jobContainer": null`, `"jobContainer": `+full)
	w.edit(`"jobServiceContainers": null`, `"jobServiceContainers": {"type":2,"map":[{"Key":"db","Value":"docker://ghcr.io/acme/db:1@sha256:`+digest+`"},{"Key":"mq","Value":"rabbit:4"},{"Key":"too","Value":"rabbit:4"}]}`)
	w.edit(`"type": "script"`, `"type": "containerRegistry", "image": "alpine:3"`)
	got, err := w.identifier(t).Identify(t.Context(), w.question)
	if err != nil {
		t.Fatal(err)
	}
	images := map[string]string{}
	for _, d := range got.Dependencies {
		if d.Annotations["kettle_kind"] == "image" {
			images[d.URI] = d.Digest["sha256"] + d.Annotations["kettle_origin"]
		}
	}
	want := map[string]string{
		"docker://alpine:3": "measured", "docker://ghcr.io/acme/db:1": digest + "measured", "docker://rabbit:4": "measured",
		"docker://$%7B%7B%20format%28%27%7B0%7D:1%27,%20matrix.os%29%20%7D%7D": "measured",
	}
	if d := cmp.Diff(want, images); d != "" {
		t.Error(d)
	}
	if got.External.Container == nil || len(got.External.Services) != 3 || got.Origins["externalParameters.container"] != statement.FromMeasured ||
		got.Origins["externalParameters.services"] != statement.FromMeasured || got.Origins["externalParameters.debug"] != "" {
		t.Errorf("parameters %+v, origins %v", got.External, got.Origins)
	}
}
