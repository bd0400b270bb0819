// SPDX-License-Identifier: Apache-2.0

// Command guest is the only program of the machine in which the tests read a TPM: it runs tpm2-tools' own programs and shows
// what they say on the serial line, between two marks.
package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("guest:", err)
	}
	time.Sleep(100 * time.Millisecond) // for the serial line
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func run() error {
	for _, m := range []struct{ kind, target string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"securityfs", "/sys/kernel/security"}} {
		if err := unix.Mount(m.kind, m.target, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	serial, err := os.OpenFile("/dev/ttyS0", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	os.Stdout = serial
	for range 100 {
		if _, err := os.Stat("/dev/tpmrm0"); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	fmt.Println("== registers")
	read := exec.Command("/usr/bin/tpm2_pcrread", "sha256:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15") //nolint:noctx // the machine ends with it.
	read.Env = []string{"TPM2TOOLS_TCTI=device:/dev/tpmrm0"}
	read.Stdout, read.Stderr = serial, serial
	if err := read.Run(); err != nil {
		return fmt.Errorf("tpm2_pcrread: %w", err)
	}
	fmt.Println("== log")
	log, err := os.ReadFile("/sys/kernel/security/tpm0/binary_bios_measurements")
	if err != nil {
		return err
	}
	fmt.Println(hex.EncodeToString(log))
	fmt.Println("== end")
	return nil
}
