// SPDX-License-Identifier: Apache-2.0

package build

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	suite   = "bookworm"
	keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	history = "https://snapshot.debian.org/archive" // every state that the archives ever had
)

// Mirror is where Debian's packages come from. The archive's signatures decide what is accepted, not the address.
type Mirror struct {
	Archive  string // URL of the archive, whose path usually ends in /debian
	Security string // URL of the security archive, usually in /debian-security
	Snapshot string // optional: URL of the archives' history, asked for what they no longer have
	// Fresh allows packages newer than those of a published lock, where the archive no longer has these: a lock is then
	// taken into the cache and used from there on. It is for development; a released image names the published lock.
	Fresh bool
}

// FindMirror takes the mirror from KETTLE_DEBIAN_MIRROR and KETTLE_DEBIAN_SECURITY_MIRROR, else from this machine's own
// apt sources when they hold Debian, else what mmdebstrap would take. Without the second variable the security archive is
// the first with "-security" at its end, as on Debian's own servers. What is not found stays empty, which a build refuses.
// KETTLE_DEBIAN_SNAPSHOT names another history than Debian's own; KETTLE_PACKAGES=fresh sets [Mirror.Fresh].
func FindMirror(ctx context.Context, getenv func(string) string) Mirror {
	m := Mirror{
		Snapshot: cmp.Or(strings.TrimSuffix(getenv("KETTLE_DEBIAN_SNAPSHOT"), "/"), history),
		Fresh:    getenv("KETTLE_PACKAGES") == "fresh",
		Archive:  strings.TrimSuffix(getenv("KETTLE_DEBIAN_MIRROR"), "/"),
		Security: strings.TrimSuffix(getenv("KETTLE_DEBIAN_SECURITY_MIRROR"), "/"),
	}
	if m.Archive != "" && m.Security == "" {
		m.Security = m.Archive + "-security"
	}
	if m.Archive == "" {
		text, err := run(ctx, tool{name: "apt-get", args: []string{
			"indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages",
		}})
		if err == nil { // without apt sources of its own there is Debian's default.
			m = hostMirror(string(text), m)
		}
	}
	if m.Archive != "" && m.Security != "" {
		return m
	}
	if path, err := exec.LookPath("mmdebstrap"); err == nil {
		if script, err := os.ReadFile(path); err == nil { //nolint:gosec // the tool that is run next.
			m = scriptMirror(string(script), m)
		}
	}
	return m
}

// scriptDefault matches the two lines in which mmdebstrap, a Perl script, names its default archives.
var scriptDefault = regexp.MustCompile(`(?m)^\s*my \$(mirror|secmirror)\s*=\s*'(https?://[^']+)';`)

// scriptMirror takes from mmdebstrap's own text what is still missing.
func scriptMirror(script string, m Mirror) Mirror {
	for _, found := range scriptDefault.FindAllStringSubmatch(script, -1) {
		switch {
		case found[1] == "mirror" && m.Archive == "":
			m.Archive = found[2]
		case found[1] == "secmirror" && m.Security == "":
			m.Security = found[2]
		}
	}
	return m
}

// hostMirror reads lines of "origin|label|address".
func hostMirror(targets string, m Mirror) Mirror {
	for line := range strings.Lines(targets) {
		fields := strings.SplitN(strings.TrimSpace(line), "|", 3)
		if len(fields) != 3 || fields[0] != "Debian" || !strings.HasPrefix(fields[2], "http") {
			continue
		}
		address := strings.TrimSuffix(fields[2], "/")
		switch {
		case fields[1] == "Debian" && m.Archive == "":
			m.Archive = address
		case fields[1] == "Debian-Security" && m.Security == "":
			m.Security = address
		}
	}
	return m
}

// sources gives the lines of a sources.list, signed by Debian's keys only.
func (m Mirror) sources() []string {
	line := func(address, suite string) string {
		return fmt.Sprintf("deb [arch=amd64 signed-by=%s] %s %s main", keyring, address, suite)
	}
	return []string{
		line(m.Archive, suite),
		line(m.Archive, suite+"-updates"),
		line(m.Security, suite+"-security"),
	}
}

// privateApt makes an apt configuration under dir that shares nothing with this machine's but its proxy settings, and
// gives the environment that selects it.
func privateApt(ctx context.Context, dir string, m Mirror) ([]string, error) {
	for _, sub := range []string{"lists/partial", "cache/archives/partial", "etc/parts"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil { //nolint:gosec // apt's own user reads it.
			return nil, fmt.Errorf("making apt's folders: %w", err)
		}
	}
	proxies, err := run(ctx, tool{name: "apt-config", args: []string{"dump", "Acquire"}})
	if err != nil {
		return nil, err
	}
	sources := filepath.Join(dir, "etc", "sources.list")
	files := map[string]string{
		sources:                            strings.Join(m.sources(), "\n") + "\n",
		filepath.Join(dir, "etc/status"):   "",
		filepath.Join(dir, "etc/apt.conf"): aptConfig(dir, sources, string(proxies)),
	}
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // apt's own user reads it.
			return nil, fmt.Errorf("writing apt's configuration: %w", err)
		}
	}
	return append(os.Environ(), "APT_CONFIG="+filepath.Join(dir, "etc/apt.conf"), "LC_ALL=C"), nil
}

func aptConfig(dir, sources, dump string) string {
	var b strings.Builder
	set := func(name, value string) { fmt.Fprintf(&b, "%s %q;\n", name, value) }
	set("APT::Architecture", "amd64")
	b.WriteString("APT::Architectures { \"amd64\"; };\n")
	set("Dir::State::lists", filepath.Join(dir, "lists"))
	set("Dir::State::status", filepath.Join(dir, "etc/status"))
	set("Dir::Cache", filepath.Join(dir, "cache"))
	set("Dir::Etc::sourcelist", sources)
	set("Dir::Etc::sourceparts", "/dev/null")
	set("Dir::Etc::preferences", "/dev/null")
	set("Dir::Etc::preferencesparts", "/dev/null")
	set("Dir::Etc::parts", filepath.Join(dir, "etc/parts"))
	set("Dir::Etc::main", "/dev/null")
	set("Dir::Etc::trusted", keyring)
	set("Dir::Etc::trustedparts", "/dev/null")
	set("APT::Sandbox::User", "root")
	set("Acquire::Languages", "none")
	set("Acquire::Retries", "3")
	for line := range strings.Lines(dump) {
		if strings.HasPrefix(line, "Acquire::http") && strings.Contains(strings.ToLower(line), "::proxy") {
			b.WriteString(line)
		}
	}
	return b.String()
}
