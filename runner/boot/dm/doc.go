// SPDX-License-Identifier: Apache-2.0

// Package dm makes device-mapper devices by the kernel's own calls (linux/dm-ioctl.h), without any program or library: the
// root under dm-verity, the job's disk under dm-crypt and dm-integrity.
//
// It guarantees that a table says what the typed target says and nothing else, that a device which [Control.Create] gives is
// live with that table, and that no key stays in a buffer of this process or of the kernel's copy of the call. It trusts the
// kernel and its caller's choice of the devices below. It does not look at what lies on them.
package dm
