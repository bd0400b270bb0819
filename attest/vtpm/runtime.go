// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/strict"
)

// The names of the keys in runtime data (HCL, RsaJwk::get_tpm_jwks).
const (
	kidAK = "HCLAkPub"

	maxKeys      = 8
	userDataSize = 64
)

// readRuntime reads runtime data that a hardware report binds. Azure adds members with time, so one that is not known is
// passed over; one that any reader could take for a known one (repeated, or differing in case) is refused.
func readRuntime(hardware Hardware, raw []byte) (*Guest, error) {
	if err := strict.Unique(raw); err != nil {
		return nil, malformedHCL("runtime data that is one unambiguous JSON object", "something else").Because(err)
	}
	top, err := object(raw, "keys", "vm-configuration", "user-data")
	if err != nil {
		return nil, err
	}
	g := &Guest{hardware: hardware}
	if g.ak, err = findAK(top["keys"]); err != nil {
		return nil, err
	}
	if g.configuration, err = readConfiguration(top["vm-configuration"]); err != nil {
		return nil, err
	}
	if g.userData, err = readUserData(top["user-data"]); err != nil {
		return nil, err
	}
	return g, nil
}

// object reads a JSON object by exact names and refuses a member that differs from a known name only in case.
// encoding/json alone would take "Secure-Boot" for "secure-boot".
func object(raw []byte, known ...string) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return nil, malformedHCL("a JSON object in the runtime data", "another value").Because(err)
	}
	for have := range members {
		for _, want := range known {
			if have != want && strings.EqualFold(have, want) {
				return nil, malformedHCL("members spelt as the paravisor spells them", quoted(have))
			}
		}
	}
	return members, nil
}

// value decodes a member of a scalar or array type into v; absent and null are refused.
func value(members map[string]json.RawMessage, name string, v any) error {
	raw, ok := members[name]
	if !ok || string(raw) == "null" {
		return malformedHCL("member "+name+" in the runtime data", "none")
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return malformedHCL("member "+name+" of its type in the runtime data", "another").Because(err)
	}
	return nil
}

// findAK demands exactly one attestation key. Names are unique, whatever their case.
func findAK(raw json.RawMessage) (*AK, error) {
	var keys []json.RawMessage
	if err := value(map[string]json.RawMessage{"keys": raw}, "keys", &keys); err != nil {
		return nil, err
	}
	if len(keys) > maxKeys {
		return nil, malformedHCL(fmt.Sprintf("at most %d keys", maxKeys), fmt.Sprintf("%d", len(keys)))
	}
	seen := make(map[string]bool, len(keys))
	var found *rsa.PublicKey
	for _, k := range keys {
		jwk, err := object(k, "kid", "kty", "key_ops", "e", "n")
		if err != nil {
			return nil, err
		}
		var kid string
		if err := value(jwk, "kid", &kid); err != nil {
			return nil, err
		}
		folded := strings.ToLower(kid)
		if seen[folded] || kid != kidAK && strings.EqualFold(kid, kidAK) {
			return nil, malformedHCL("keys of different names", quoted(kid)+" twice, or in another case")
		}
		seen[folded] = true
		if kid != kidAK {
			continue
		}
		if found, err = rsaJWK(jwk); err != nil {
			return nil, err
		}
	}
	if found == nil {
		return nil, malformedHCL("an attestation key "+kidAK, fmt.Sprintf("%d other keys", len(keys)))
	}
	return newAK(Paravisor, found)
}

// rsaJWK reads an RSA public key (RFC 7518 6.3.1): minimal big-endian integers in base64url without padding.
func rsaJWK(jwk map[string]json.RawMessage) (*rsa.PublicKey, error) {
	var kty, e, n string
	for _, member := range [...]struct {
		name string
		to   *string
	}{{"kty", &kty}, {"e", &e}, {"n", &n}} {
		if err := value(jwk, member.name, member.to); err != nil {
			return nil, err
		}
	}
	if kty != "RSA" || e != "AQAB" {
		return nil, malformedHCL("an RSA key with exponent 65537 (AQAB)", quoted(kty)+" with "+quoted(e))
	}
	modulus, err := base64.RawURLEncoding.Strict().DecodeString(n)
	if err != nil || strings.ContainsAny(n, "\r\n") || len(modulus) == 0 || modulus[0] == 0 {
		return nil, malformedHCL("a modulus in base64url", quoted(n)).Because(err)
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: rsaExponent}
	if !strongKey(key) {
		return nil, brokenChain(linkAK, "an RSA key of 2048 to 4096 bits", fmt.Sprintf("%d bits", key.N.BitLen()))
	}
	return key, nil
}

// readUserData reads what the guest wrote into NV index 0x01400002: 64 bytes in hexadecimal, or nothing.
func readUserData(raw json.RawMessage) ([]byte, error) {
	if raw == nil {
		return nil, nil
	}
	var text string
	if err := value(map[string]json.RawMessage{"user-data": raw}, "user-data", &text); err != nil {
		return nil, err
	}
	data, err := hex.DecodeString(text)
	if err != nil || len(data) != 0 && len(data) != userDataSize {
		return nil, malformedHCL(fmt.Sprintf("user data of %d bytes in hexadecimal", userDataSize), quoted(text)).Because(err)
	}
	return data, nil
}

// readConfiguration reads vm-configuration. A switch that is there has to be a boolean; which ones have to be there is
// for the floor to say.
func readConfiguration(raw json.RawMessage) (Configuration, error) {
	var c Configuration
	switches := [...]struct {
		name string
		to   **bool
	}{
		{"secure-boot", &c.secureBoot},
		{"console-enabled", &c.console},
		{"interactive-console-enabled", &c.interactiveConsole},
		{"tpm-enabled", &c.tpm},
		{"tpm-persisted", &c.tpmPersisted},
		{"filtered-vpci-devices-allowed", &c.filteredDevices},
	}
	texts := [...]struct {
		name string
		to   *string
	}{{"vmUniqueId", &c.uniqueID}, {"root-cert-thumbprint", &c.rootThumbprint}}
	if raw == nil {
		return c, malformedHCL("member vm-configuration in the runtime data", "none")
	}
	known := make([]string, 0, len(switches)+len(texts))
	for _, s := range switches {
		known = append(known, s.name)
	}
	for _, t := range texts {
		known = append(known, t.name)
	}
	members, err := object(raw, known...)
	if err != nil {
		return c, err
	}
	for _, s := range switches {
		if _, ok := members[s.name]; !ok {
			continue
		}
		*s.to = new(bool)
		if err := value(members, s.name, *s.to); err != nil {
			return c, err
		}
	}
	for _, t := range texts {
		if _, ok := members[t.name]; !ok {
			continue
		}
		if err := value(members, t.name, t.to); err != nil {
			return c, err
		}
	}
	return c, nil
}

// refuseSwitch says that a switch of the configuration is not as demanded.
func refuseSwitch(name string, want bool, have *bool) error {
	if have != nil && *have == want {
		return nil
	}
	got := "not stated"
	if have != nil {
		got = fmt.Sprintf("%s %v", name, *have)
	}
	return &refusal.Refusal{
		Link: linkPlatform, Code: refusal.Policy, Want: fmt.Sprintf("%s %v in the paravisor's report", name, want),
		Got: got, Next: nextRelaunch,
	}
}
