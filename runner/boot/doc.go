// SPDX-License-Identifier: Apache-2.0

// Package boot is what kettled does before it is a supervisor: the initramfs's only program, then PID 1.
//
// [Enter] carries one program through three processes:
//
//  1. On the initramfs it mounts the kernel's file systems, reads the measured command line strictly, compares the
//     configuration with the digest there, loads the listed modules, maps the root partition with dm-verity under the root hash
//     of the command line, makes it the root and executes itself again.
//  2. On the new root it is PID 1: it mounts what is kettled's to write to, hardens the machine ([Harden]), starts itself a
//     third time and reaps orphans until that process ends, and then powers off.
//  3. The third process is the supervisor: hidden from every other, locked in memory, never chosen when memory runs out.
//     Only there [Enter] returns. What depends on the configuration it does itself, [MakeScratch] among it.
//
// What it guarantees: the supervisor runs on a root file system of which the kernel compares each block, whenever it is read,
// with the root hash on the measured command line, and stops at the first other one; with a configuration that has the
// digest there; on a machine in which every setting of [Harden] was seen to have taken. What a job writes the host can neither
// read nor change nor put back ([MakeScratch]). Whatever else goes wrong ends in one sentence on the serial line and in
// power-off; there is no shell on any path.
//
// What it trusts: the kernel, the initrd that it came from and the command line, all of which are measured before it
// runs. What it does not: the disks, the ports and the network, which the host provides; the kernel parses a partition table,
// and nothing else of a disk before it was checked. It cannot tell whether anybody measured it; that is for evidence checked
// outside.
package boot
