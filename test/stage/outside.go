// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/internal/fakesigstore"
)

// The reusable workflow that builds and signs this stage's images, in the stand-in for Sigstore's eyes, and whose workflow
// calls it.
const (
	imageRepository = "acme/images"
	imageCaller     = ".github/workflows/release.yml"
	imageWorkflow   = "kettle/attest/.github/workflows/image.yml@refs/tags/v1"
	imageRef        = "refs/tags/v1"
)

// Sigstore is a stand-in for the instance that signs images, and the identity of the workflow that asks it to.
type Sigstore struct {
	instance *fakesigstore.Instance
	identity fakesigstore.Identity
	server   *http.Server
	url      string
}

// NewSigstore starts an instance with new keys on loopback.
func NewSigstore() (*Sigstore, error) {
	s := &Sigstore{identity: fakesigstore.GitHub(imageRepository, imageCaller, imageRef)}
	s.identity.JobWorkflowRef, s.identity.JobWorkflowSHA = imageWorkflow, strings.Repeat("b2", 20)
	var err error
	if s.instance, err = fakesigstore.New(fakesigstore.Config{Now: time.Now}); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0") //nolint:noctx // returns at once.
	if err != nil {
		return nil, err
	}
	s.url = "http://" + listener.Addr().String()
	s.server = &http.Server{Handler: s.instance.Handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.server.Serve(listener) }() // ends with Close
	return s, nil
}

// Close ends it.
func (s *Sigstore) Close() error { return s.server.Close() }

// TrustedRoot is what whoever verifies an image of this stage trusts.
func (s *Sigstore) TrustedRoot() []byte { return s.instance.TrustedRoot() }

// Signer is the entry of environments.images in a policy that accepts this stage's images: YAML in braces.
func (s *Sigstore) Signer() string {
	workflow, _, _ := strings.Cut(s.identity.SAN(), "@")
	return fmt.Sprintf(`{issuer: %q, workflow: %q, refs: [refs/tags/v*], repository: {url: "https://github.com/%s", id: %q, ownerId: %q}}`,
		s.identity.Issuer, workflow, imageRepository, s.identity.RepositoryID, s.identity.OwnerID)
}

// Attest signs the image of the stage with `kettle image attest`, as the workflow would, and puts the bundle into the image's
// disk. It takes more flags of that command.
func (s *Stage) Attest(ctx context.Context, by *Sigstore, more ...string) error {
	token, err := by.instance.Token(by.identity)
	if err != nil {
		return err
	}
	file, root := filepath.Join(s.Dir, "identity-token"), filepath.Join(s.Dir, "trusted_root.json")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(root, by.TrustedRoot(), 0o644); err != nil { //nolint:gosec // public.
		return err
	}
	return Command(ctx, s.Dir, nil, filepath.Join(s.Bin, "kettle"), append([]string{
		"image", "attest", s.Image, "--platform", "sim", "--disk",
		"--fulcio-url", by.url, "--rekor-url", by.url, "--timestamp-url", by.url + fakesigstore.PathTimestamp,
		"--identity-token", file, "--trusted-root", root,
	}, more...)...)
}

// Bundle is the image's own bundle, once it is attested.
func (s *Stage) Bundle() string { return filepath.Join(s.Image, "image.intoto.jsonl") }

// Disk is the image's disk.
func (s *Stage) Disk() string { return filepath.Join(s.Image, image.DiskFile) }

// File is a file of the image.
func (s *Stage) File(f image.File) string { return filepath.Join(s.Image, f.Name) }
