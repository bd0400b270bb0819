// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/kettle/attest/attest/collect/quoteport"
)

const (
	sysPorts = "/sys/class/virtio-ports"
	devPorts = "/dev"

	// portLimit is how long a port may take to appear: the kernel names it some time after the device is found.
	portLimit = 10 * time.Second
	// maxPortName is more than any name that the kernel's virtio console driver reads.
	maxPortName = 256
)

// openSim opens the virtio-serial port whose name is [quoteport.PortName], looking below sys for its name and below
// dev for its device.
func openSim(ctx context.Context, sys, dev string) (*Device, error) {
	ctx, cancel := context.WithTimeout(ctx, portLimit)
	defer cancel()
	for {
		node, err := findPort(sys)
		if err != nil {
			return nil, err
		}
		if node != "" {
			return openNode(dev, node)
		}
		select {
		case <-ctx.Done():
			return nil, &UnsupportedError{Platform: PlatformSim, Need: "a virtio-serial port named " + quoteport.PortName + ", which the launcher provides"}
		case <-time.After(retryPause):
		}
	}
}

// findPort gives the device name of the port, "" if there is none yet. Two ports of that name are an error: the
// machine was not put together by our launcher.
func findPort(sys string) (string, error) {
	entries, err := os.ReadDir(sys)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("listing the virtio-serial ports: %w", err)
	}
	device := regexp.MustCompile(`^vport[0-9]+p[0-9]+$`)
	var found string
	for _, e := range entries {
		if !device.MatchString(e.Name()) {
			continue
		}
		name, err := os.ReadFile(filepath.Join(sys, e.Name(), "name")) //nolint:gosec // Below the kernel's own folder.
		if err != nil || len(name) > maxPortName {
			continue // a port without a name, or gone meanwhile
		}
		if strings.TrimSuffix(string(name), "\n") != quoteport.PortName {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("finding the quote port: both %s and %s have its name", found, e.Name())
		}
		found = e.Name()
	}
	return found, nil
}

// openNode opens the port's device. It is a character device that Go's poller can wait on, so closing it ends a read.
func openNode(dev, node string) (*Device, error) {
	f, err := os.OpenFile(filepath.Join(dev, node), os.O_RDWR, 0) //nolint:gosec // The kernel's own name for the port.
	if err != nil {
		return nil, fmt.Errorf("opening the quote port: %w", err)
	}
	return New(f), nil
}
