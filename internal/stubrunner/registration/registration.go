// SPDX-License-Identifier: Apache-2.0

// Package registration reads and writes a runner's own files: .runner, .credentials and .credentials_rsaparams.
//
// A JIT configuration is base64 of a JSON object that maps these names to base64 contents; nothing in it is signed.
// Guarantees: names find their values without regard to case, numbers and booleans may be written as text, as the real
// runner reads them. Trusts: whoever made the files. Does not: protect the key beyond the mode of the file.
package registration

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kettle/attest/internal/stubrunner/service"
)

// The names of the files, in a runner's root.
const (
	RunnerFile      = ".runner"
	CredentialsFile = ".credentials"
	KeyFile         = ".credentials_rsaparams"
)

// Save decodes a JIT configuration and writes its files into the root.
func Save(root, encoded string) error {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return fmt.Errorf("decoding jit configuration: %w", err)
	}
	var files map[string]string
	if err := json.Unmarshal(raw, &files); err != nil {
		return fmt.Errorf("decoding jit configuration: %w", err)
	}
	for name, content := range files {
		if name == "" || name != filepath.Base(name) || name == "." || name == ".." {
			return fmt.Errorf("decoding jit configuration: %q is not a file name", name)
		}
		data, err := base64.StdEncoding.DecodeString(content)
		if err != nil {
			return fmt.Errorf("decoding jit configuration: %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(root, name), data, 0o600); err != nil {
			return fmt.Errorf("saving jit configuration: %w", err)
		}
	}
	return nil
}

// Remove deletes the files from the root.
func Remove(root string) error {
	var failures []error
	for _, name := range []string{RunnerFile, CredentialsFile, KeyFile} {
		if err := os.Remove(filepath.Join(root, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// ErrNotConfigured says that the root has no registration.
var ErrNotConfigured = errors.New("runner is not configured")

// loose reads values written as text or as JSON of their own kind.
type loose string

// UnmarshalJSON accepts text, numbers, booleans and null.
func (l *loose) UnmarshalJSON(data []byte) error {
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	switch v := v.(type) {
	case nil:
		*l = ""
	case string:
		*l = loose(v)
	default:
		*l = loose(data)
	}
	return nil
}

func (l loose) truthy() bool { return strings.EqualFold(string(l), "true") || l == "1" }

// Settings is the file .runner.
type Settings struct {
	// AgentID and AgentName identify the runner.
	AgentID   int64
	AgentName string
	// WorkFolder is the work folder, absolute.
	WorkFolder string
	// BrokerURL is the base of the message service.
	BrokerURL string
	// DisableUpdate, Ephemeral and V2 are the registration's switches.
	DisableUpdate, Ephemeral, V2 bool
	// SkipSessionRecover says not to replace a session that ended.
	SkipSessionRecover bool
}

// Load reads .runner. [ErrNotConfigured] when a file is missing.
func Load(root string) (Settings, error) {
	var file struct {
		AgentID            loose `json:"AgentId"`
		AgentName          loose
		WorkFolder         loose
		ServerURLV2        loose `json:"ServerUrlV2"`
		DisableUpdate      loose
		Ephemeral          loose
		UseV2Flow          loose
		SkipSessionRecover loose
	}
	if _, err := os.Stat(filepath.Join(root, CredentialsFile)); err != nil {
		return Settings{}, ErrNotConfigured
	}
	if err := readFile(root, RunnerFile, &file); err != nil {
		return Settings{}, err
	}
	id, err := strconv.ParseInt(string(file.AgentID), 10, 64)
	if err != nil {
		return Settings{}, fmt.Errorf("reading %s: AgentId: %w", RunnerFile, err)
	}
	work := string(file.WorkFolder)
	if work == "" {
		work = "_work"
	}
	if !filepath.IsAbs(work) {
		work = filepath.Join(root, work)
	}
	return Settings{
		AgentID: id, AgentName: string(file.AgentName), WorkFolder: work, BrokerURL: string(file.ServerURLV2),
		DisableUpdate: file.DisableUpdate.truthy(), Ephemeral: file.Ephemeral.truthy(), V2: file.UseV2Flow.truthy(),
		SkipSessionRecover: file.SkipSessionRecover.truthy(),
	}, nil
}

func readFile(root, name string, into any) error {
	data, err := os.ReadFile(filepath.Join(root, name)) //nolint:gosec // A fixed name in the runner's root.
	if errors.Is(err, os.ErrNotExist) {
		return ErrNotConfigured
	}
	if err != nil {
		return fmt.Errorf("reading registration: %w", err)
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(string(data), "\ufeff")), into); err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	return nil
}

// Credential reads .credentials and .credentials_rsaparams.
func Credential(root string) (service.Credential, error) {
	var file struct {
		Scheme string
		Data   map[string]loose
	}
	if err := readFile(root, CredentialsFile, &file); err != nil {
		return service.Credential{}, err
	}
	if file.Scheme != "OAuth" {
		return service.Credential{}, fmt.Errorf("reading %s: scheme %q is not known", CredentialsFile, file.Scheme)
	}
	get := func(name string) loose {
		for k, v := range file.Data {
			if strings.EqualFold(k, name) {
				return v
			}
		}
		return ""
	}
	key, err := readKey(root)
	if err != nil {
		return service.Credential{}, err
	}
	c := service.Credential{
		ClientID: string(get("clientId")), AuthorizationURL: string(get("authorizationUrl")), Key: key,
		FIPS: get("requireFipsCryptography").truthy(),
	}
	if c.ClientID == "" || c.AuthorizationURL == "" {
		return service.Credential{}, fmt.Errorf("reading %s: clientId or authorizationUrl is missing", CredentialsFile)
	}
	return c, nil
}

func readKey(root string) (*rsa.PrivateKey, error) {
	var file struct {
		D, P, Q, Modulus, Exponent []byte
	}
	if err := readFile(root, KeyFile, &file); err != nil {
		return nil, err
	}
	number := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
	exponent := number(file.Exponent)
	if !exponent.IsInt64() || exponent.Int64() > 1<<31-1 {
		return nil, fmt.Errorf("reading %s: the exponent is too large", KeyFile)
	}
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: number(file.Modulus), E: int(exponent.Int64())},
		D:         number(file.D), Primes: []*big.Int{number(file.P), number(file.Q)},
	}
	if err := key.Validate(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", KeyFile, err)
	}
	key.Precompute()
	return key, nil
}
