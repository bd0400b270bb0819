// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
)

// tenant is the path of this server's only tenant at the OAuth and pipelines services.
const tenant = "5e4d430c-d710-4b62-aed8-555ffd0f7592"

func (s *Server) oauthURL() string {
	return s.urls[serviceOAuth] + "/_apis/oauth2/token/" + tenant
}

// jitConfig encodes the three files a runner needs: base64 of a JSON object of file names to base64 of the files, whose
// values are strings throughout (Runner.cs, ConfigurationStore.cs).
func (s *Server) jitConfig(r *runner, folder string) (string, error) {
	r.key.Precompute()
	files := map[string]any{
		".runner": map[string]any{
			"AgentId": strconv.FormatInt(r.id, 10), "AgentName": r.name, "PoolId": strconv.Itoa(defaultGroup), "PoolName": nil,
			"ServerUrl": s.urls[servicePipelines] + "/" + tenant + "/", "WorkFolder": folder, "Ephemeral": "True",
			"DisableUpdate": "False", "GitHubUrl": "", "UseV2Flow": "True", "ServerUrlV2": s.urls[serviceBroker] + "/",
		},
		".credentials": map[string]any{
			"Scheme": "OAuth",
			"Data":   map[string]any{"ClientId": r.clientID, "AuthorizationUrl": s.oauthURL(), "RequireFipsCryptography": "True"},
		},
		".credentials_rsaparams": map[string]any{
			"d": r.key.D.Bytes(), "p": r.key.Primes[0].Bytes(), "q": r.key.Primes[1].Bytes(),
			"dp": r.key.Precomputed.Dp.Bytes(), "dq": r.key.Precomputed.Dq.Bytes(), "inverseQ": r.key.Precomputed.Qinv.Bytes(),
			"modulus": r.key.N.Bytes(), "exponent": big.NewInt(int64(r.key.E)).Bytes(),
		},
	}
	out := map[string][]byte{}
	for name, content := range files {
		raw, err := json.Marshal(content)
		if err != nil {
			return "", fmt.Errorf("encoding %s: %w", name, err)
		}
		out[name] = raw
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return "", fmt.Errorf("encoding runner configuration: %w", err)
	}
	return base64.StdEncoding.EncodeToString(raw), nil
}
