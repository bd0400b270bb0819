// SPDX-License-Identifier: Apache-2.0

package attesttest

import (
	"os"
	"sync"

	"github.com/kettle/attest/attest/sim"
)

// AuthorityEnv names a folder with an authority that [sim.Authority.Save] wrote. Test programs that are started by the
// dozen share it: to make one takes seconds.
const AuthorityEnv = "KETTLE_TEST_AUTHORITY"

// Authority is the simulator's authority that all environments share.
var Authority = sync.OnceValue(func() *sim.Authority {
	if dir := os.Getenv(AuthorityEnv); dir != "" {
		a, err := sim.LoadAuthority(dir)
		if err != nil {
			panic(err) // the test that set the variable is wrong
		}
		return a
	}
	return newAuthority()
})

// OtherAuthority is another one.
var OtherAuthority = sync.OnceValue(func() *sim.Authority { return newAuthority() })

func newAuthority() *sim.Authority {
	a, err := sim.NewAuthority(Now())
	if err != nil {
		panic(err) // only without random numbers
	}
	return a
}
