// SPDX-License-Identifier: Apache-2.0

package image

// What the builder, the launcher and the guest must agree on. A change here is a change of the image.
const (
	// ConfigDir holds the measured configuration: a flat directory, in the initrd and on the root alike.
	ConfigDir = "/etc/kettle"
	// ConfigFile is the file whose digest is on the measured command line.
	ConfigFile = ConfigDir + "/config.yaml"
	// ModulesDir holds the kernel modules in the initrd, uncompressed.
	ModulesDir = "/modules"
	// ModuleList names them in load order, see [ParseModules].
	ModuleList = ModulesDir + "/list"
	// ScratchDir is an empty directory of the root file system: where the job's disk is mounted.
	ScratchDir = "/var/lib/kettle"
	// ScratchDevice is the block device in memory that the job's disk lies on, or the tags of its blocks.
	ScratchDevice = "/dev/ram0"
	// ScratchDeviceKiB is its size. Pages are allocated when they are written to; this is only more than any machine has.
	ScratchDeviceKiB = 1 << 30
	// MakeXFS is the program that makes the job's disk.
	MakeXFS = "/usr/sbin/mkfs.xfs"
	// ToolsDir holds what a job finds of Kettle: kettle-action, started.sh and the runner.
	ToolsDir = "/usr/lib/kettle"
	// RootName is the name of the partition that holds the root file system and its hash tree. A whole virtio disk may have it
	// as its serial number instead.
	RootName = "kettle-root"
	// BundleName is the name of the partition that holds the image's bundle of statements.
	BundleName = "kettle-bundle"
	// ScratchName is the name of the partition, or the serial number of the whole virtio disk, for the job's disk when it does
	// not lie in memory. What is on it before is lost.
	ScratchName = "kettle-scratch"
	// Serial is the serial line that kettled says its one sentence on.
	Serial = "/dev/ttyS0"
	// ControlPort is the virtio-serial port of the launcher's channel.
	ControlPort = "dev.kettle.control"
	// QuotePort is the virtio-serial port of the simulated secure processor.
	QuotePort = "dev.kettle.quote"
)
