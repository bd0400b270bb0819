// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	keyFile      = "ask.key"
	rootsFile    = "roots.pem"
	keyMode      = 0o600
	publicMode   = 0o644
	dirMode      = 0o700
	maxStoreFile = 64 << 10
)

// Save writes the authority to a folder, which it makes if need be: roots.pem (what --root takes) and ask.key (the
// ASK's key in PKCS #8, readable by the owner only). It never replaces a file: an authority that is there already is
// an error that matches [os.ErrExist].
func (a *Authority) Save(dir string) error {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("saving the simulator's authority: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("saving the simulator's authority: %w", err)
	}
	defer func() { _ = root.Close() }()
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return fmt.Errorf("saving the simulator's key: %w", err)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := writeNew(root, keyFile, keyMode, key); err != nil {
		return err
	}
	return writeNew(root, rootsFile, publicMode, a.RootsPEM())
}

func writeNew(root *os.Root, name string, mode os.FileMode, data []byte) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("saving the simulator's authority: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("saving the simulator's %s: %w", name, err)
	}
	return nil
}

// LoadAuthority reads what [Authority.Save] wrote. A folder without one is an error that matches [os.ErrNotExist]. A
// key that others than its owner can read, or that does not belong to the certificates, is refused.
func LoadAuthority(dir string) (*Authority, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("loading the simulator's authority: %w", err)
	}
	defer func() { _ = root.Close() }()
	keyPEM, err := readAll(root, keyFile, keyMode)
	if err != nil {
		return nil, err
	}
	rootsPEM, err := readAll(root, rootsFile, publicMode)
	if err != nil {
		return nil, err
	}
	a := &Authority{}
	if a.key, err = parseKey(keyPEM); err != nil {
		return nil, fmt.Errorf("loading the simulator's %s: %w", keyFile, err)
	}
	if err := a.parseRoots(rootsPEM); err != nil {
		return nil, fmt.Errorf("loading the simulator's %s: %w", rootsFile, err)
	}
	return a, nil
}

// readAll reads a regular file whose permissions go no further than mode.
func readAll(root *os.Root, name string, mode os.FileMode) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("loading the simulator's authority: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("loading the simulator's authority: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&^mode != 0 {
		return nil, fmt.Errorf("loading the simulator's %s: want a regular file of mode %o or less, got %v", name, mode, info.Mode())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxStoreFile))
	if err != nil {
		return nil, fmt.Errorf("loading the simulator's %s: %w", name, err)
	}
	return data, nil
}

func parseKey(data []byte) (*rsa.PrivateKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("want one PRIVATE KEY block in PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing the key: %w", err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("want an RSA key")
	}
	return key, nil
}

func (a *Authority) parseRoots(data []byte) error {
	first, rest := pem.Decode(data)
	second, rest := pem.Decode(rest)
	if first == nil || second == nil || len(bytes.TrimSpace(rest)) != 0 {
		return errors.New("want two certificates in PEM, ASK then ARK")
	}
	var err error
	if a.ask, err = x509.ParseCertificate(first.Bytes); err != nil {
		return fmt.Errorf("parsing the ASK: %w", err)
	}
	if a.ark, err = x509.ParseCertificate(second.Bytes); err != nil {
		return fmt.Errorf("parsing the ARK: %w", err)
	}
	if err := a.ask.CheckSignatureFrom(a.ark); err != nil {
		return fmt.Errorf("checking the ASK's signature: %w", err)
	}
	if public, ok := a.ask.PublicKey.(*rsa.PublicKey); !ok || !public.Equal(&a.key.PublicKey) {
		return fmt.Errorf("the certificate in %s is not for the key in %s", rootsFile, keyFile)
	}
	return nil
}
