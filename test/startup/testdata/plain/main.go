// SPDX-License-Identifier: Apache-2.0

// Command plain is the only program of a machine without kettled: it mounts the root, brings the network up and becomes the
// runner program with the JIT configuration that lies beside it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/runner/boot"
	"github.com/kettle/attest/runner/channel"
)

func main() {
	if err := run(context.Background()); err != nil {
		boot.PowerOff("plain stopped: " + err.Error())
	}
}

const root = "/sysroot"

type mount struct {
	device, target, kind, data string
	flags                      uintptr
}

func run(ctx context.Context) error {
	phases := []channel.Phase{{Name: "kernel", Elapsed: boot.Uptime()}}
	lap := func(name string) { phases = append(phases, channel.Phase{Name: name, Elapsed: boot.Uptime()}) }
	err := mountAll([]mount{{"proc", "/proc", "proc", "", 0}, {"sysfs", "/sys", "sysfs", "", 0}, {"devtmpfs", "/dev", "devtmpfs", "", 0}})
	if err != nil {
		return err
	}
	if err := load(); err != nil {
		return err
	}
	lap("modules")
	device, err := find(image.RootName)
	if err != nil {
		return err
	}
	err = mountAll([]mount{
		{device, root, "erofs", "", unix.MS_RDONLY}, {"/proc", root + "/proc", "", "", unix.MS_MOVE}, {"/sys", root + "/sys", "", "", unix.MS_MOVE},
		{"/dev", root + "/dev", "", "", unix.MS_MOVE}, {"tmpfs", root + "/run", "tmpfs", "mode=0755", 0}, {"tmpfs", root + "/tmp", "tmpfs", "mode=1777", 0},
	})
	if err != nil {
		return err
	}
	if err := os.CopyFS(root+"/run/config", os.DirFS(image.ConfigDir)); err != nil {
		return err
	}
	if err := errors.Join(os.Chdir(root), unix.Mount(".", "/", "", unix.MS_MOVE, ""), unix.Chroot("."), os.Chdir("/")); err != nil {
		return err
	}
	lap("root")
	if err := network(ctx); err != nil {
		return err
	}
	lap("network")
	return become(ctx, phases)
}

func mountAll(mounts []mount) error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil && !errors.Is(err, unix.EROFS) {
			return err
		}
		if err := unix.Mount(m.device, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mounting %s on %s: %w", m.device, m.target, err)
		}
	}
	return nil
}

func load() error {
	text, err := os.ReadFile(image.ModuleList)
	if err != nil {
		return err
	}
	modules, err := image.ParseModules(string(text))
	if err != nil {
		return err
	}
	for _, m := range modules {
		f, err := os.Open(filepath.Join(image.ModulesDir, m.File))
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), strings.Join(m.Parameters, " "), 0)
		_ = f.Close()
		if err != nil && !m.Optional && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("loading %s: %w", m.File, err)
		}
	}
	return nil
}

// find gives the partition of this name, which shows up when its driver has looked.
func find(name string) (string, error) {
	for range 1000 {
		found, _ := filepath.Glob("/sys/class/block/*/uevent")
		for _, path := range found {
			text, _ := os.ReadFile(path) // it may be gone again
			if strings.Contains(string(text), "PARTNAME="+name+"\n") {
				return "/dev/" + filepath.Base(filepath.Dir(path)), nil
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	return "", fs.ErrNotExist
}

func network(ctx context.Context) error {
	text, err := os.ReadFile("/run/config/hosts.json")
	if err != nil {
		return err
	}
	n := boot.Network{Interface: "eth0", Address: netip.MustParsePrefix("10.0.2.15/24")}
	if err := json.Unmarshal(text, &n.Hosts); err != nil {
		return err
	}
	return n.Up(ctx)
}

// become says how long everything took and becomes the runner program, in a copy of its folder that it can write to.
func become(ctx context.Context, phases []channel.Phase) error {
	jit, err := os.ReadFile("/run/config/jit")
	if err != nil {
		return err
	}
	if err := copyTree(image.ToolsDir+"/runner", "/run/runner"); err != nil {
		return err
	}
	phases = append(phases, channel.Phase{Name: "runner-copied", Elapsed: boot.Uptime()})
	port, err := boot.OpenPort(ctx, image.ControlPort)
	if err != nil {
		return err
	}
	guest := channel.NewGuest(port)
	if err := guest.Send(ctx, channel.Hello{Program: "plain"}); err != nil {
		return err
	}
	for _, p := range phases {
		if err := guest.Send(ctx, p); err != nil {
			return err
		}
	}
	if err := os.Chdir("/run/runner"); err != nil {
		return err
	}
	const listener = "/run/runner/bin/Runner.Listener"
	return unix.Exec(listener, []string{listener, "run"}, []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run", "SSL_CERT_FILE=/run/config/demo-ca.pem",
		"RUNNER_ALLOW_RUNASROOT=1", "ACTIONS_RUNNER_INPUT_JITCONFIG=" + string(jit),
	})
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := to + strings.TrimPrefix(path, from)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		return errors.Join(err, out.Close())
	})
}
