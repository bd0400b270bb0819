// SPDX-License-Identifier: Apache-2.0

package build

import (
	"fmt"
	"slices"

	"github.com/kettle/attest/image"
)

// Profile is how much of the machine a job may use, as the measured configuration says it. It decides which modules the
// kernel gets and which packages the job finds.
type Profile string

// The profiles. Docker is for jobs that run container engines; it has everything that Strict has.
const (
	Strict Profile = "strict"
	Docker Profile = "docker"
)

// Validate refuses what is none of the profiles, the empty one too.
func (p Profile) Validate() error {
	if p != Strict && p != Docker {
		return fmt.Errorf("profile: want %s or %s, got %q", Strict, Docker, p)
	}
	return nil
}

// modules are what the guest needs beyond the kernel itself. Nothing can be loaded later, neither by a job nor for it.
func (p Profile) modules() []string {
	if p == Docker {
		return append(slices.Clone(strictModules), dockerModules...)
	}
	return strictModules
}

// strictModules are the guest's disk and network, its root file system and what checks it, the job's disk, in memory or
// encrypted and authenticated on a disk, and the sandbox's layers and interface.
var strictModules = []string{
	"virtio_blk", "virtio_net", "dm_verity", "erofs", "brd", "xfs", "dm_crypt", "dm_integrity", "authenc", "xts", "overlay", "veth",
}

// dockerModules are what dockerd and podman ask the kernel for through the iptables of nftables, through nftables itself,
// and through the old iptables that images of container engines still bring: bridges, address translation, the matches
// and targets of their rules, the interfaces of rootless containers, and other processors' programs (binfmt_misc belongs
// to one user namespace). File systems, encapsulations, load balancers and devices are not among them.
var dockerModules = []string{
	"bridge", "br_netfilter", "tun", "binfmt_misc",
	"nf_tables", "nft_compat", "nft_chain_nat", "nft_nat", "nft_masq", "nft_redir", "nft_ct", "nft_fib_inet", "nf_conntrack_netlink",
	"xt_MASQUERADE", "xt_nat", "xt_addrtype", "xt_conntrack", "xt_comment", "xt_multiport", "xt_mark", "xt_tcpudp",
	"ip_tables", "iptable_filter", "iptable_nat",
}

// hardwareModules are for what a machine may or may not have: disks on SCSI (Google, and QEMU), on Hyper-V (Azure) and its
// bus, the network cards of Azure, Google and Amazon, the ways to ask a secure processor, and the processor's own instructions
// for what checks and encrypts disks. NVMe disks and TPMs are in the kernel itself. What hands the guest things that the host
// may choose and nobody measures is not among them: qemu_fw_cfg, efivarfs and dmi_sysfs, balloons, random numbers of the host's.
var hardwareModules = []string{
	"sha256_ssse3", "aesni_intel",
	"virtio_scsi", "sd_mod", "hv_vmbus", "hv_storvsc",
	"hv_netvsc", "gve", "ena",
	"tsm", "sev_guest", "tdx_guest",
}

// moduleParameters are those of the modules that need any. The one memory disk is as large as any job's could be.
var moduleParameters = map[string][]string{
	"brd": {"rd_nr=1", fmt.Sprintf("rd_size=%d", image.ScratchDeviceKiB)},
}
