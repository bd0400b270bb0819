// SPDX-License-Identifier: Apache-2.0

package deps

// Order is the import order: a package imports only what stands above it. A folder that is not listed belongs to the
// nearest listed folder above it. docs/architecture.md draws the same order and says what each package is for.
func Order() []string {
	return []string{
		"internal/deps",
		"internal/mutant",
		"internal/secret",
		"internal/strict",
		"internal/vectors",
		"attest/refusal",
		"attest/floor",
		"attest/binding",
		"attest/evidence",
		"attest/eventlog",
		"attest/eventlog/tcg",
		"attest/snp",
		"attest/tdx",
		"attest/vtpm",
		"attest/nitro",
		"attest/collect",
		"attest/statement",
		"attest/token",
		"internal/fakesigstore",
		"attest/bundle",
		"attest/policy",
		"attest/appraise",
		"attest/reference",
		"attest/admission",
		"attest",
		"attest/sim",
		"attest/attesttest",
		"image/verity",
		"image",
		"image/measure",
		"image/disk/slot",
		"image/disk",
		"image/registry",
		"image/uki",
		"image/idblock",
		"image/locks",
		"image/build",
		"image/launch",
		"runner/program",
		"runner",
		"runner/config",
		"runner/channel",
		"runner/door",
		"runner/job",
		"runner/beneath",
		"runner/diag",
		"runner/outputs",
		"runner/changes",
		"runner/github",
		"runner/scaleset",
		"runner/sandbox",
		"runner/egress",
		"runner/sink",
		"runner/boot/dm",
		"runner/boot",
		"runner/selfverify",
		"runner/admission",
		"dispatch",
		"action",
		"internal/fakegithub",
		"internal/stubrunner",
		"cmd/internal/cli",
		"cmd/internal/commands",
		"cmd",
		"image/packer",
		"test",
		"docs",
	}
}

// SingleImporters lists the libraries that have one home.
func SingleImporters() []Importers {
	return []Importers{
		{
			Library: "github.com/sigstore/sigstore-go",
			Folders: []string{"attest/bundle"},
			Reason:  "signing and verifying of bundles is decided in one place",
		},
		{
			Library: "github.com/google/go-sev-guest",
			Folders: []string{"attest/snp", "attest/collect"},
			Tests:   []string{"."},
			Reason:  "an option it is not given is a check it does not make; attest/snp takes AMD's certificates from it and nothing else",
		},
		{
			Library: "github.com/google/go-tdx-guest",
			Folders: []string{"attest/collect"},
			Tests:   []string{"."},
			Reason:  "it panics on hostile quotes and skips the platform's TCB status; only its structures of the kernel's interface are used",
		},
		{
			Library: "github.com/fxamacker/cbor",
			Folders: []string{"attest/nitro"},
			Reason:  "its defaults take indefinite lengths, tags and the last of repeated keys; attest/nitro is the one place that sets them all",
		},
		{
			Library: "github.com/google/go-eventlog",
			Folders: []string{"attest/eventlog/tcg"},
			Tests:   []string{"."},
			Reason:  "attest/eventlog/tcg is held against it; it takes an empty log for a good one",
		},
		{
			Library: "github.com/google/gce-tcb-verifier",
			Folders: []string{"image/measure"},
			Tests:   []string{"image/measure"},
			Reason:  "image/measure is held against it; it knows its own provider's machines alone",
		},
		{
			Library: "github.com/virtee/sev-snp-measure-go",
			Folders: []string{"image/measure"},
			Tests:   []string{"image/measure"},
			Reason:  "image/measure is held against it; it refuses firmware that measures a kernel",
		},
		{
			Library: "github.com/google/go-configfs-tsm",
			Folders: []string{"attest/collect"},
			Reason:  "one package opens the hardware",
		},
		{
			Library: "github.com/google/go-tpm",
			Folders: []string{"attest/collect"},
			Tests:   []string{"."},
			Reason:  "one package talks to the device; what a TPM says is read by attest/vtpm, strictly",
		},
		{
			Library: "github.com/google/go-github",
			Folders: []string{"runner/github"},
			Tests:   []string{"internal"},
			Reason:  "one adapter speaks to GitHub's REST API, and no verifier links it",
		},
		{
			Library: "github.com/bradleyfalzon/ghinstallation",
			Folders: []string{"internal/fakegithub"},
			Tests:   []string{"internal"},
			Reason:  "it takes no clock and cannot refresh a token; tests hold the stand-in against it",
		},
		{
			Library: "github.com/actions/scaleset",
			Folders: []string{"runner/scaleset"},
			Tests:   []string{"internal"},
			Reason:  "one adapter speaks to GitHub's scale sets",
		},
		{
			Library: "github.com/hashicorp/go-retryablehttp",
			Folders: []string{"runner/scaleset"},
			Reason:  "the scale-set client wants one; its retries are off there",
		},
		{
			Library: "github.com/prometheus/client_golang",
			Folders: []string{"dispatch"},
			Reason:  "only the launcher is asked for metrics; kettled has no listener",
		},
		{
			Library: "github.com/digitorus/timestamp",
			Folders: []string{"internal/fakesigstore"},
			Tests:   []string{"attest/bundle"},
			Reason:  "only the stand-in makes timestamps; they are verified by sigstore-go",
		},
		{
			Library: "github.com/spdx/tools-golang",
			Folders: []string{"image/build"},
			Reason:  "one package writes the bill of materials",
		},
		{
			Library: "github.com/diskfs/go-diskfs",
			Folders: []string{"image/disk"},
			Reason:  "one package writes partition tables",
		},
		{
			Library: "github.com/google/go-containerregistry",
			Folders: []string{"image/registry"},
			Tests:   []string{"cmd"},
			Reason:  "one package asks registries: it looks at each request that the library makes; tests serve a registry",
		},
		{
			Library: "github.com/klauspost/compress",
			Folders: []string{"runner/diag"},
			Reason:  "one package packs what a hostile job wrote",
		},
		{
			Library: "github.com/sethvargo/go-githubactions",
			Folders: []string{"action"},
			Reason:  "one package writes workflow commands, outputs and the summary",
		},
		{
			Library: "github.com/opencontainers/runtime-spec",
			Folders: []string{"runner/sandbox"},
			Reason:  "one package writes what crun is told",
		},
		{
			Library: "github.com/vishvananda/netlink",
			Folders: []string{"runner/egress"},
			Tests:   []string{"runner"},
			Reason:  "one package lays the sandbox's wire",
		},
		{
			Library: "github.com/cilium/ebpf",
			Folders: []string{"runner/egress"},
			Reason:  "one package loads programs into the kernel",
		},
		{
			Library: "github.com/rhysd/actionlint",
			Folders: []string{"internal/fakegithub", "internal/stubrunner"},
			Tests:   []string{"image/packer"},
			Reason:  "only stand-ins read workflow files; kettled takes the job's facts from GitHub",
		},
		{
			Library: "testing",
			Folders: []string{"attest/attesttest", "attest/snp/snptest", "attest/collect/tpm/tpmtest", "internal/mutant", "internal/vectors"},
			Tests:   []string{"."},
			Reason:  "production code does not import the test framework",
		},
		{
			Library: "github.com/spf13/cobra",
			Folders: []string{"cmd", "test"},
			Reason:  "a library has no flags",
		},
	}
}

// BarredLinks lists what must not be linked, and by whom.
func BarredLinks() []Barred {
	return []Barred{
		{
			Folders: []string{"attest"},
			Links:   []string{"./image/build", "./image/disk", "./image/uki"},
			Reason:  "what verifies an image builds none; the command that does both composes them",
		},
		{
			Folders: []string{"attest", "cmd/kettle"},
			Links: []string{
				"github.com/google/go-github",
				"github.com/bradleyfalzon/ghinstallation",
				"./runner/github",
				"./runner/scaleset",
				"./dispatch",
				"./internal/fakesigstore",
			},
			Except: []string{"attest/attesttest"},
			Reason: "a verifier is small: it holds no client of GitHub, no dispatcher and no stand-in",
		},
		{
			Folders: []string{"attest"},
			Except:  []string{"attest/sim", "attest/attesttest"},
			Links:   []string{"./attest/sim", "./runner", "./image/launch", "./action", "./cmd"},
			Reason:  "verifying does not depend on running, nor on the simulator",
		},
		{
			Folders: []string{"cmd/kettled", "runner"},
			Links:   []string{"./attest/sim", "./image/launch", "./image/build", "./dispatch", "./internal/fakegithub", "./internal/fakesigstore", "./internal/stubrunner"},
			Reason:  "the supervisor links no stand-in: what the demo replaces stands outside the trusted code",
		},
		{
			Folders: []string{"cmd/kettle-action", "action"},
			Links:   []string{"./runner/github", "./attest/bundle", "./attest/snp", "github.com/google/go-github", "github.com/sigstore/sigstore-go"},
			Reason:  "the program in the sandbox holds no key and decides nothing",
		},
		{
			Folders: []string{"."},
			Except: []string{
				"attest/attesttest", "attest/snp/snptest", "attest/collect/tpm/tpmtest", "image/measure/measuretest", "internal/mutant", "internal/vectors",
			},
			Links: []string{
				"./attest/attesttest", "./attest/snp/snptest", "./attest/tdx/tdxtest", "./attest/vtpm/vtpmtest",
				"./attest/nitro/nitrotest",
				"./attest/collect/tpm/tpmtest", "./image/measure/measuretest", "./internal/mutant", "./internal/vectors",
				"./dispatch/admission/admissiontest", "./image/imagetest",
			},
			Reason: "doubles are for tests",
		},
	}
}

// BarePackages lists the packages that import the standard library only.
func BarePackages() []Bare {
	return []Bare{
		{Folder: "attest/refusal", Reason: "every package can say no in the same words, at no cost"},
		{Folder: "attest/binding", Also: []string{"attest/refusal"}, Reason: "the 64 bytes are so important that nothing else may change them"},
		{
			Folder: "runner/door",
			Also:   []string{"attest/refusal", "internal/secret", "internal/strict"},
			Reason: "the sandbox's side of it is linked into the program that the job can read",
		},
		{Folder: "internal/strict", Reason: "it reads what a hostile job wrote"},
	}
}
