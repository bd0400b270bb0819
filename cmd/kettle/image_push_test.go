// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	oci "github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kettle/attest/image"
)

// privateRegistry serves a registry over TLS that wants a password.
func privateRegistry(t *testing.T) *httptest.Server {
	t.Helper()
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	inner := oci.New(oci.Logger(quiet))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "ada" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = quiet
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// TestImagePushScripts runs kettle image push and kettle image verify against a registry.
func TestImagePushScripts(t *testing.T) {
	t.Parallel()
	files, server := signedFiles(t), privateRegistry(t)
	m, err := image.Parse(files["image/image.json"])
	if err != nil {
		t.Fatal(err)
	}
	address := server.Listener.Addr().String()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/push",
		Setup: func(env *testscript.Env) error {
			write := func(name string, b []byte) error {
				path := filepath.Join(env.WorkDir, name)
				return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o600))
			}
			var errs []error
			for name, b := range files {
				errs = append(errs, write(name, b))
			}
			errs = append(errs,
				write("registry.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
				write("login.json", fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, address, base64.StdEncoding.EncodeToString([]byte("ada:secret")))))
			env.Setenv("AT", imageAt)
			env.Setenv("REGISTRY", address)
			env.Setenv("ROOT", m.Verity.RootHash.String())
			env.Setenv("MANIFEST", fmt.Sprintf("sha256:%x", sha256.Sum256(files["image/image.json"])))
			return errors.Join(errs...)
		},
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"code": wantCode, "snapshot": snapshot, "unchanged": unchanged},
		RequireExplicitExec: true,
	})
}
