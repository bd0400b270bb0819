// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/image/locks"
)

// published is a copy of the published lock of a profile.
func published(t *testing.T, p Profile) *locks.Lock {
	t.Helper()
	l, err := locks.OfProfile(string(p))
	must(t, err)
	return l
}

// TestPublishedLocks shows that the published locks were taken for what this program wants.
func TestPublishedLocks(t *testing.T) {
	t.Parallel()
	for _, p := range []Profile{Strict, Docker} {
		s, err := System{Profile: p}.newSupply(published(t, p))
		must(t, err)
		if got, want := strings.Join(s.lock.Wanted, " "), strings.Join(System{Profile: p}.packages(), " "); got != want {
			t.Errorf("%s: the lock is of\n%s, and the image wants\n%s: take it again with kettle image lock", p, got, want)
		}
	}
}

func TestLockOfAnother(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]System{
		"another profile": {Profile: Docker, Lock: published(t, Strict)},
		"more packages":   {Profile: Strict, Lock: published(t, Strict), Packages: []string{"gcc"}},
	} {
		if _, err := s.chooseLock(t.Context(), t.TempDir(), Mirror{}); err == nil {
			t.Errorf("%s: the lock was taken", name)
		}
	}
	other := published(t, Strict)
	other.Suite = "trixie"
	if _, err := (System{Profile: Strict, Lock: other}).chooseLock(t.Context(), t.TempDir(), Mirror{}); err == nil {
		t.Error("another release: the lock was taken")
	}
}

// TestGone has an archive that has forgotten everything: a published image cannot be made of it, and a lock that the cache
// took earlier counts only where newer packages are allowed.
func TestGone(t *testing.T) {
	t.Parallel()
	empty, cache := "file://"+t.TempDir(), t.TempDir()
	mirror := Mirror{Archive: empty, Security: empty}
	_, err := FetchKernel(t.Context(), cache, mirror)
	var gone *GoneError
	var remote *RemoteError
	if !errors.As(err, &gone) || !errors.As(err, &remote) || !strings.Contains(err.Error(), "kettle image lock") {
		t.Fatalf("got %v", err)
	}
	newer := published(t, Strict)
	newer.Taken = newer.Taken.AddDate(0, 1, 0)
	data, err := newer.Marshal()
	must(t, err)
	system := System{Profile: Strict}
	own, err := system.chooseLock(t.Context(), cache, mirror)
	must(t, err)
	write(t, system.lockPath(cache, own.digest), string(data), 0o600)
	again, err := system.chooseLock(t.Context(), cache, mirror)
	must(t, err)
	if again.digest != own.digest {
		t.Error("a lock of the cache took the place of the published one")
	}
	mirror.Fresh = true
	fresh, err := system.chooseLock(t.Context(), cache, mirror)
	must(t, err)
	if fresh.digest == own.digest || fresh.recipe == own.recipe || fresh.note == "" {
		t.Errorf("got lock %s, note %q", fresh.digest, fresh.note)
	}
	system.Lock = published(t, Strict)
	named, err := system.chooseLock(t.Context(), cache, mirror)
	must(t, err)
	if named.digest != own.digest {
		t.Error("a lock of the cache took the place of the one that was named")
	}
}

// TestAttackChangedLockInCache puts a lock into the cache that was not written by this program.
func TestAttackChangedLockInCache(t *testing.T) {
	t.Parallel()
	cache, system := t.TempDir(), System{Profile: Strict, Packages: []string{"gcc"}}
	data, err := published(t, Strict).Marshal()
	must(t, err)
	path := system.lockPath(cache, [32]byte{})
	for name, text := range map[string]string{"of other packages": string(data), "with an end": string(data) + "\n", "empty": ""} {
		write(t, path, text, 0o600)
		if s, err := system.chooseLock(t.Context(), cache, Mirror{}); err == nil {
			t.Errorf("%s: it was taken: %s", name, s.digest)
		}
	}
}

func TestInstalledAsLocked(t *testing.T) {
	t.Parallel()
	tree, lock := t.TempDir(), published(t, Strict)
	list := string(installed(lock))
	path := filepath.Join(tree, packageList)
	for name, tt := range map[string]struct{ list, want string }{
		"as locked":        {list, ""},
		"one more":         {list + "zz 1 all\n", "no more"},
		"one fewer":        {list[:strings.LastIndex(strings.TrimSuffix(list, "\n"), "\n")+1], "is missing"},
		"another version":  {strings.Replace(list, "bash 5", "bash 6", 1), "bash 6"},
		"nothing":          {"", "is missing"},
		"without its end":  {strings.TrimSuffix(list, "\n"), "zstd"},
		"a foreign binary": {strings.Replace(list, "amd64", "arm64", 1), "arm64"},
	} {
		write(t, path, tt.list, 0o600)
		err := installedAsLocked(tree, lock)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestAttackReachNetwork starts what mmdebstrap's scripts would: a program that calls this machine, which listens. Where there
// is no way to this machine there is none to another.
func TestAttackReachNetwork(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("it takes root to make namespaces")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { must(t, listener.Close()) }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	must(t, err)
	call := tool{name: "bash", args: []string{"-c", "exec 3<>/dev/tcp/127.0.0.1/" + port}}
	if _, err := run(t.Context(), call); err != nil {
		t.Fatalf("the listener cannot be reached at all: %v", err)
	}
	call.contained = true
	if _, err := run(t.Context(), call); err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("a contained program reached the network: %v", err)
	}
}

// TestToolEnvironment: nothing of the caller's reaches the programs whose work goes into an image.
func TestToolEnvironment(t *testing.T) {
	t.Setenv("TZ", "Asia/Tokyo")
	t.Setenv("APT_CONFIG", "/x")
	t.Setenv("LD_PRELOAD", "/x.so")
	for _, pair := range toolEnv("/tmp/x") {
		name, value, _ := strings.Cut(pair, "=")
		switch name {
		case "PATH", "HOME", "LC_ALL", "SOURCE_DATE_EPOCH":
		case "TZ":
			if value != "UTC" {
				t.Errorf("TZ is %s", value)
			}
		case "TMPDIR":
			if value != "/tmp/x" {
				t.Errorf("TMPDIR is %s", value)
			}
		default:
			t.Errorf("%s comes through", name)
		}
	}
}
