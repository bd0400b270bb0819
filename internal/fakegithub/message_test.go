// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kettle/attest/internal/secret"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The golden file is a wire format of GitHub's service: it may change only when that does.
func TestMessageGolden(t *testing.T) {
	t.Parallel()
	s, err := New(Config{Hosts: DemoHosts(), Operator: Operator{Login: "operator", ID: 1001, Token: secret.New("ghp_operator")}})
	if err != nil {
		t.Fatal(err)
	}
	err = s.AddRepository(Repository{
		Owner: "acme", Name: "widget", ID: 1296269, OwnerID: 583231, Dir: "testdata/widget", Refs: []string{"refs/heads/main"},
		SHA: "c27d339ee6075c1f744c5d4b200f7901aad2c369", Vars: map[string]string{"MASCOT": "mona"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Dispatch(t.Context(), Dispatch{Owner: "acme", Repo: "widget", Workflow: "build.yml", Ref: "main"}); err != nil {
		t.Fatal(err)
	}
	j := s.jobs[0]
	j.run.plan, j.guid = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	j.token, j.system = "ghs_jobtoken", "system-vss-connection-token"
	m := s.message(j)
	for i := range m.Steps {
		m.Steps[i].ID = fmt.Sprintf("33333333-3333-4333-8333-33333333330%d", i+1)
	}
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(m); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "jobmessage.json")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(decode(t, want), decode(t, got.Bytes())); diff != "" {
		t.Errorf("job message (-want +got):\n%s", diff)
	}
}

func decode(t *testing.T, raw []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
