// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kettle/attest/runner/door"
)

// kettled answers for a job whose workspace it knows.
type kettled struct{ workspace string }

func (k kettled) Started(context.Context, door.Started) error { return nil }

func (k kettled) Attest(context.Context, door.Attest) (door.Attested, error) {
	return door.Attested{}, nil
}

func (k kettled) Status(context.Context) (door.Status, error) {
	return door.Status{Phase: "running", Workspace: k.workspace}, nil
}

func serve(t *testing.T, h door.Handler) door.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "door") //nolint:usetesting // t.TempDir may exceed the 108 bytes of a socket's path.
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- (&door.Server{Handler: h, Check: func(context.Context, door.Peer) error { return nil }}).Serve(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	return door.Client{Path: path}
}

// TestContainerPaths translates the request of a job in a container; /runs is the runner's work folder.
func TestContainerPaths(t *testing.T) {
	t.Parallel()
	client := serve(t, kettled{"/runs/widget/widget"})
	in := door.Attest{
		Workspace: "/__w/widget/widget", Checksums: "/__w/_temp/sums", ArtifactsList: "/github/home/list",
		Paths: []string{"dist/*", "../x", "!dist/a", "/__w/widget/widget/out/**", "!/__w/**/b", "/__w", "/__t/go/1", "/github/workflow/event.json", "/__w/a/../b"},
	}
	want := door.Attest{
		Workspace: "/runs/widget/widget", Checksums: "/runs/_temp/sums", ArtifactsList: "/runs/_temp/_github_home/list",
		Paths: []string{"dist/*", "../x", "!dist/a", "/runs/widget/widget/out/**", "!/runs/**/b", "/runs", "/runs/_tool/go/1", "/runs/_temp/_github_workflow/event.json", "/runs/b"},
	}
	got, err := outside(t.Context(), client, in)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	plain := door.Attest{Workspace: "/runs/widget/widget", Paths: []string{"/opt/x"}}
	if got, err := outside(t.Context(), door.Client{Path: "/nonexistent"}, plain); err != nil || !cmp.Equal(got, plain) {
		t.Errorf("a job without a container: %+v, %v", got, err)
	}
}

// TestAttackOtherFile names files that only the container has, where another file of that name may lie outside: it would
// be attested in their place.
func TestAttackOtherFile(t *testing.T) {
	t.Parallel()
	client := serve(t, kettled{"/runs/widget/widget"})
	var usage *UsageError
	for _, p := range []string{"/opt/out", "/", "/__work/x", "/__w/../etc/passwd", "/__w/*/../../etc/passwd", "!/etc/x", "/__t../x", "/github/homes"} {
		if got, err := outside(t.Context(), client, door.Attest{Workspace: "/__w/w/w", Paths: []string{p}}); !errors.As(err, &usage) {
			t.Errorf("%s became %v, %v", p, got.Paths, err)
		}
	}
	if _, err := outside(t.Context(), client, door.Attest{Workspace: "/__w/w/w", Checksums: "/tmp/sums"}); !errors.As(err, &usage) {
		t.Errorf("checksums of the container: %v", err)
	}
	if _, err := outside(t.Context(), serve(t, kettled{}), door.Attest{Workspace: "/__w/w/w"}); !errors.As(err, &usage) {
		t.Errorf("no workspace: %v", err)
	}
}
