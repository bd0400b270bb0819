// SPDX-License-Identifier: Apache-2.0

package endorse

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/kettle/attest/attest/collect/fetch"
)

// Technology is the part of a launch endorsement's address that names the kind of guest.
type Technology string

// The technologies of Google's bucket.
const (
	SEVSNP Technology = "sevsnp"
	TDX    Technology = "tdx"
)

// Launch gets Google's serialized VMLaunchEndorsement of a firmware by its launch measurement (MEASUREMENT or MRTD, 48
// bytes).
func (c *Client) Launch(ctx context.Context, t Technology, measurement []byte) ([]byte, error) {
	if len(measurement) != 48 {
		return nil, fmt.Errorf("asking for a launch endorsement: a measurement of %d bytes, want 48", len(measurement))
	}
	d, err := c.fetch.Get(ctx, fetch.Request{
		What: "Google launch endorsement", Limit: maxLaunch,
		URL: fmt.Sprintf("%s/ovmf_x64_csm/%s/%s.binarypb", c.gce, t, hex.EncodeToString(measurement)),
		Accept: func(d fetch.Document) (time.Time, error) {
			// A protocol buffer whose first field, serialized_uef, is of type bytes. The verifier reads the rest.
			if len(d.Body) < 2 || d.Body[0] != 1<<3|2 {
				return time.Time{}, errors.New("no serialized launch endorsement")
			}
			return c.now().Add(keepCertificate), nil
		},
		Next: "without it, Google's firmware can only be recognised by a reference value of your own",
	})
	return d.Body, err
}
