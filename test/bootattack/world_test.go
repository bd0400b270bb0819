// SPDX-License-Identifier: Apache-2.0

package bootattack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/image/disk"
	"github.com/kettle/attest/image/launch"
	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/test/stage"
)

// world is what every machine of these tests is started from: one image, and whoever signed it.
type world struct {
	*stage.Stage
	sigstore *stage.Sigstore
	settings string // folder of the measured configuration
	manifest *image.Manifest
	bundle   []byte // of the image
}

// made is the world once it is made, and the folders that go away with this process.
var made struct {
	once  sync.Once
	world *world
	err   error
	dirs  []string

	otherOnce sync.Once
	other     []byte // bundle of another image
	otherErr  error
}

// TestMain puts the host's own program into QEMU's place, see [hostile].
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "kettle-host-")
	if err == nil {
		made.dirs = append(made.dirs, dir)
		err = hostile(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if made.world != nil {
		err = made.world.sigstore.Close()
	}
	for _, dir := range made.dirs {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err = errors.Join(err, goleak.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// theWorld makes the image and signs it, once. Where no VM can be started it skips, or fails if KETTLE_REQUIRE_VM=1 says that
// one must.
func theWorld(t *testing.T) *world {
	t.Helper()
	made.once.Do(func() { made.world, made.err = newWorld(context.WithoutCancel(t.Context())) })
	switch {
	case made.err == nil:
	case os.Getenv("KETTLE_REQUIRE_VM") == "1":
		t.Fatalf("KETTLE_REQUIRE_VM=1, but no image can be started: %v", made.err)
	default:
		t.Skipf("no image can be started here: %v", made.err)
	}
	return made.world
}

// rootYears is how long ago the simulated processors and their root were made.
const rootYears = 3

func newWorld(ctx context.Context) (*world, error) {
	for _, name := range []string{"qemu-system-x86_64", "mkfs.erofs", "mkfs.vfat", "mcopy", "mmdebstrap", "swtpm"} {
		if _, err := exec.LookPath(name); err != nil {
			return nil, fmt.Errorf("%w; scripts/apt-packages lists what is needed", err)
		}
	}
	cache, err := build.CacheDir(os.Getenv)
	if err != nil {
		return nil, err
	}
	if _, err := build.CachedKernel(cache); err != nil && os.Getenv("KETTLE_REQUIRE_VM") != "1" {
		return nil, fmt.Errorf("%w; scripts/build-image fetches it", err)
	}
	dir, err := os.MkdirTemp("", "kettle-bootattack-")
	if err != nil {
		return nil, err
	}
	made.dirs = append(made.dirs, dir)
	s, err := stage.Open(ctx, dir, "")
	if err != nil {
		return nil, err
	}
	if err := s.Programs(ctx, stage.Program{Package: "./cmd/kettle", File: "kettle"}); err != nil {
		return nil, err
	}
	// The processors' root is old: a machine whose clock is wrong has genuine quotes.
	authority, err := sim.NewAuthority(time.Now().AddDate(-rootYears, 0, 0))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(authority.Save(s.Simulator()), s.Authority()); err != nil {
		return nil, err
	}
	w := &world{Stage: s, settings: filepath.Join(dir, "settings")}
	if w.sigstore, err = stage.NewSigstore(); err != nil {
		return nil, err
	}
	if err := w.bake(ctx); err != nil {
		return nil, errors.Join(err, w.sigstore.Close())
	}
	return w, nil
}

// bake makes and signs the image.
func (w *world) bake(ctx context.Context) error {
	ca, err := fakegithub.NewAuthority(append(fakegithub.DemoHosts().Names(), stage.RecordsHost), time.Now())
	if err != nil {
		return err
	}
	if err := w.Settings(w.settings, stage.Outside{Timeouts: stage.DemoTimeouts, CA: ca, Sigstore: w.sigstore}); err != nil {
		return err
	}
	if w.manifest, err = w.Bake(ctx, stage.Parts{Settings: w.settings}); err != nil {
		return err
	}
	code, variables, err := launch.FindOVMF()
	if err != nil {
		return err
	}
	if err := w.Attest(ctx, w.sigstore, "--uki-firmware", code, "--uki-variables", variables); err != nil {
		return err
	}
	w.bundle, err = os.ReadFile(w.Bundle())
	return err
}

// other is the bundle of another image, by the same signer: one with another policy inside.
func (w *world) other(t *testing.T) []byte {
	t.Helper()
	made.otherOnce.Do(func() { made.other, made.otherErr = w.signOther(context.WithoutCancel(t.Context())) })
	must(t, made.otherErr)
	return made.other
}

func (w *world) signOther(ctx context.Context) ([]byte, error) {
	s := *w.Stage
	s.Image = filepath.Join(w.Dir, "other-image")
	settings := filepath.Join(w.Dir, "other-settings")
	if err := os.CopyFS(settings, os.DirFS(w.settings)); err != nil {
		return nil, err
	}
	policy, err := os.OpenFile(filepath.Join(settings, "policy.yaml"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	_, err = policy.WriteString("# another image\n")
	if err := errors.Join(err, policy.Close()); err != nil {
		return nil, err
	}
	if _, err := s.Bake(ctx, stage.Parts{Settings: settings}); err != nil {
		return nil, err
	}
	if err := s.Attest(ctx, w.sigstore); err != nil {
		return nil, err
	}
	return os.ReadFile(s.Bundle())
}

// layout says where things are on the image's disk.
func (w *world) layout() disk.Layout {
	d := w.manifest.Disk
	return disk.Layout{Size: d.Size, ESP: disk.Range(d.ESP), Root: disk.Range(d.Root), Bundle: disk.Range(d.Bundle)}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
