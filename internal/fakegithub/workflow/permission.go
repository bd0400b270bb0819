// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rhysd/actionlint"
)

// Permissions maps a scope, as spelled in workflow files ("contents", "id-token"), to "read" or "write". A scope that is
// absent has no access.
type Permissions map[string]string

// scopes are all scopes a job's token can have.
var scopes = [...]string{
	"actions", "artifact-metadata", "attestations", "checks", "contents", "deployments", "discussions", "id-token", "issues",
	"models", "packages", "pages", "pull-requests", "security-events", "statuses",
}

// DefaultPermissions is what a job's token can do when the file says nothing and the repository has GitHub's restricted
// default.
func DefaultPermissions() Permissions {
	return Permissions{"contents": "read", "packages": "read", "metadata": "read"}
}

// Allows reports whether the scope has the access; write includes read.
func (p Permissions) Allows(scope, access string) bool {
	return p[scope] == "write" || access == "read" && p[scope] == "read"
}

// permissions converts the permissions key. A file that grants anything denies all it does not name.
func permissions(in *actionlint.Permissions) (Permissions, error) {
	out := Permissions{"metadata": "read"}
	if in.All != nil {
		access, ok := strings.CutSuffix(in.All.Value, "-all")
		if !ok || access != "read" && access != "write" {
			return nil, fmt.Errorf("%w: line %d: permissions %q", ErrInvalid, in.All.Pos.Line, in.All.Value)
		}
		for _, s := range scopes {
			if s != "id-token" || access == "write" { // there is no reading of id tokens
				out[s] = access
			}
		}
		return out, nil
	}
	for name, s := range in.Scopes {
		if !slices.Contains(scopes[:], name) {
			return nil, fmt.Errorf("%w: line %d: permission %q", ErrInvalid, s.Name.Pos.Line, name)
		}
		switch v := s.Value.Value; v {
		case "read", "write":
			out[name] = v
		case "none":
		default:
			return nil, fmt.Errorf("%w: line %d: permission %s: %q", ErrInvalid, s.Value.Pos.Line, name, v)
		}
	}
	return out, nil
}
