// SPDX-License-Identifier: Apache-2.0

package registration_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"github.com/kettle/attest/internal/stubrunner/registration"
)

func encode(t testing.TB, files map[string]any) string {
	t.Helper()
	out := map[string]string{}
	for name, v := range files {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = base64.StdEncoding.EncodeToString(data)
	}
	data, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(data)
}

func files(t testing.TB) map[string]any {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		".runner": map[string]any{
			"AgentId": "7", "agentName": "r", "WorkFolder": "_w", "Ephemeral": "True", "DisableUpdate": true, "UseV2Flow": "true",
			"ServerUrlV2": "https://broker.test/", "PoolName": nil,
		},
		".credentials": map[string]any{"Scheme": "OAuth", "Data": map[string]any{
			"ClientId": "c", "authorizationUrl": "https://oauth.test/", "RequireFipsCryptography": "True",
		}},
		".credentials_rsaparams": map[string]any{
			"modulus": key.N.Bytes(), "exponent": big.NewInt(int64(key.E)).Bytes(), "d": key.D.Bytes(),
			"p": key.Primes[0].Bytes(), "q": key.Primes[1].Bytes(),
		},
	}
}

func TestRegistration(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if _, err := registration.Load(root); !errors.Is(err, registration.ErrNotConfigured) {
		t.Errorf("empty root: %v", err)
	}
	if err := registration.Save(root, encode(t, files(t))); err != nil {
		t.Fatal(err)
	}
	got, err := registration.Load(root)
	want := registration.Settings{
		AgentID: 7, AgentName: "r", WorkFolder: filepath.Join(root, "_w"), BrokerURL: "https://broker.test/",
		DisableUpdate: true, Ephemeral: true, V2: true,
	}
	if err != nil || got != want {
		t.Errorf("settings: %+v %v", got, err)
	}
	credential, err := registration.Credential(root)
	if err != nil || credential.ClientID != "c" || !credential.FIPS || credential.Key == nil {
		t.Errorf("credential: %v", err)
	}
	if err := registration.Remove(root); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 0 {
		t.Errorf("left: %v %v", entries, err)
	}
}

func TestSaveRefuses(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	b64 := base64.StdEncoding.EncodeToString
	for name, text := range map[string]string{
		"not base64": "%", "not json": b64([]byte("x")), "content": b64([]byte(`{".runner":"%"}`)),
		"path": b64([]byte(`{"../x":""}`)), "dots": b64([]byte(`{"..":""}`)),
	} {
		if err := registration.Save(root, text); err == nil {
			t.Errorf("%s was saved", name)
		}
	}
}

func TestCredentialRefuses(t *testing.T) {
	t.Parallel()
	base := files(t)
	for name, change := range map[string]func(map[string]any){
		"scheme": func(f map[string]any) { f[".credentials"] = map[string]any{"Scheme": "Basic"} },
		"client": func(f map[string]any) { f[".credentials"] = map[string]any{"Scheme": "OAuth"} },
		"key":    func(f map[string]any) { f[".credentials_rsaparams"] = map[string]any{"modulus": []byte{1}} },
		"exponent": func(f map[string]any) {
			f[".credentials_rsaparams"] = map[string]any{"exponent": make([]byte, 9), "d": []byte{1}}
		},
		"agent": func(f map[string]any) { f[".runner"] = map[string]any{"AgentId": "x"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			changed := map[string]any{}
			for k, v := range base {
				changed[k] = v
			}
			change(changed)
			if err := registration.Save(root, encode(t, changed)); err != nil {
				t.Fatal(err)
			}
			_, errLoad := registration.Load(root)
			if _, err := registration.Credential(root); err == nil && errLoad == nil {
				t.Error("it was read")
			}
		})
	}
}
