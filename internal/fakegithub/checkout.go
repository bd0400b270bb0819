// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"embed"
	"io/fs"
)

//go:embed checkout/action.yml
var checkoutFiles embed.FS

// AddCheckout shows a stand-in for actions/checkout under the given tags, for example v4. It is a composite action that fetches
// the archive of the commit with curl: the real one needs Node and the git protocol.
func (s *Server) AddCheckout(tags ...string) error {
	files, err := fs.Sub(checkoutFiles, "checkout")
	if err != nil {
		return err
	}
	refs := make([]string, 0, len(tags))
	for _, t := range tags {
		refs = append(refs, "refs/tags/"+t)
	}
	return s.AddRepository(Repository{Owner: "actions", Name: "checkout", ID: 197814629, OwnerID: 44036562, FS: files, Refs: refs})
}
