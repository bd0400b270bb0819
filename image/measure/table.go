// SPDX-License-Identifier: Apache-2.0

package measure

import "fmt"

// maxTable bounds the values of one table.
const maxTable = 4096

// SNPValue is the launch digest of one shape of a guest.
type SNPValue struct {
	VCPUs  int
	CPU    CPU
	Digest Digest
}

// SNPTable gives the launch digests of one image for each number and each type of processors, types first: the number and
// the type are in the digest, so that an image has one value for each. VCPUs and CPU of l are not looked at.
func SNPTable(l SNPLaunch, vcpus []int, cpus []CPU) ([]SNPValue, error) {
	if len(vcpus) == 0 || len(cpus) == 0 || len(vcpus) > maxTable/len(cpus) {
		return nil, fmt.Errorf("predicting SNP launch digests: %d numbers and %d types of processors, want at least one of each and at most %d values",
			len(vcpus), len(cpus), maxTable)
	}
	values := make([]SNPValue, 0, len(vcpus)*len(cpus))
	for _, c := range cpus {
		for _, n := range vcpus {
			l.VCPUs, l.CPU = n, c
			digest, err := SNP(l)
			if err != nil {
				return nil, err
			}
			values = append(values, SNPValue{n, c, digest})
		}
	}
	return values, nil
}
