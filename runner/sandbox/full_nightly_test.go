// SPDX-License-Identifier: Apache-2.0

//go:build nightly

package sandbox_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/kettle/attest/runner/sandbox"
)

// nightlyTag builds the guest like this program: go test -tags nightly adds the docker profile's own system, which takes five
// minutes to make and to boot under emulation.
const nightlyTag = "nightly"

func TestFullApt(t *testing.T) {
	if !in(t, full) {
		return
	}
	words := []string{"hello from a package", "another /home/another/file"}
	script(t, strict("apt"), 0, words, "apt.sh")
	script(t, docker("apt-docker"), 0, words, "apt.sh")
}

// engine is what the job with Docker said, which runs once.
var engine = struct {
	once sync.Once
	said string
}{}

func dockerSaid(t *testing.T) string {
	t.Helper()
	engine.once.Do(func() {
		o := expose(t)
		r := script(t, docker("engine"), 0, nil, "docker.sh", strconv.Itoa(os.Getpid()), strconv.Itoa(o.key))
		engine.said = r.out.String()
		if _, left := r.Leftovers(); !strings.Contains(fmt.Sprint(left), "dockerd") || !strings.Contains(fmt.Sprint(left), " job") {
			t.Errorf("left %v", left)
		}
	})
	return engine.said
}

func TestFullDocker(t *testing.T) {
	if !in(t, full) {
		return
	}
	said := dockerSaid(t)
	for _, w := range []string{
		"driver overlay2, groups 2 ", "[built]", "in a container", "3fffffffff\n",
		`dialled cache:6379: "served\n"`, "dialled unix:/var/run/docker.sock <nil>", "from a container", "attack over",
	} {
		if !strings.Contains(said, w) {
			t.Errorf("no %q", w)
		}
	}
}

// As root of a privileged container in all the namespaces of the sandbox, with its root mounted.
func TestAttackNested(t *testing.T) {
	if !in(t, full) {
		return
	}
	said := dockerSaid(t)
	for area, least := range map[string]int{
		"supervisor": 10, "devices": 60, "mounts": 40, "calls": 36, "kernel": 40, "network": 20, "groups": 40, "clock": 4, "keys": 7,
		"namespaces": 8, "disk": 16,
	} {
		t.Run(area, func(t *testing.T) { denied(t, said, area, least) })
	}
}

func TestFullPodman(t *testing.T) {
	if !in(t, full) {
		return
	}
	script(t, docker("podman"), 0, []string{
		"in a container of root's", "in a container of nobody's", "rootless true",
	}, "podman.sh")
}

func TestFullSystemd(t *testing.T) {
	if !in(t, full) {
		return
	}
	c := docker("systemd")
	c.Init = sandbox.Systemd
	script(t, c, 9, []string{
		"uid 1001 groups runner docker home /home/runner wd /home/runner/actions-runner jit credential", "system running", "active",
		"in a unit of its own, jit .", "20.10",
	}, "systemd.sh")
}
