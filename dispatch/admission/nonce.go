// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
)

// nonces makes the server's nonces and knows them again without remembering them:
//
//	nonce = time ‖ random ‖ HMAC-SHA256(key, domain ‖ time ‖ random ‖ environment key)[:16]
//
// The key is this process's own, so a nonce of another process or of an earlier life is unknown. What is remembered are
// nonces that were used, until they would have expired anyway; only a genuine quote uses one, so that nobody can use up
// another's, and asking for challenges takes no memory.
type nonces struct {
	key   [sha256.Size]byte
	life  time.Duration
	limit int

	mu   sync.Mutex
	used map[binding.Digest]time.Time // mu; until when
}

// The parts of a nonce, in bytes.
const (
	nonceTime   = 8 // nanoseconds since 1970, big-endian
	nonceRandom = 8
	nonceHead   = nonceTime + nonceRandom
)

const nonceDomain = "kettle/attest admission nonce v1\x00"

func newNonces(life time.Duration, limit int) (*nonces, error) {
	n := &nonces{life: life, limit: limit, used: map[binding.Digest]time.Time{}}
	if _, err := rand.Read(n.key[:]); err != nil {
		return nil, fmt.Errorf("drawing the key of nonces: %w", err)
	}
	return n, nil
}

// make draws a nonce for one environment, and says when it ends.
func (n *nonces) make(environment binding.Digest, now time.Time) (binding.Digest, time.Time, error) {
	var d binding.Digest
	binary.BigEndian.PutUint64(d[:nonceTime], uint64(now.UnixNano()))
	if _, err := rand.Read(d[nonceTime:nonceHead]); err != nil {
		return binding.Digest{}, time.Time{}, fmt.Errorf("drawing a nonce: %w", err)
	}
	copy(d[nonceHead:], n.tag(d, environment))
	return d, now.Add(n.life), nil
}

func (n *nonces) tag(d, environment binding.Digest) []byte {
	h := hmac.New(sha256.New, n.key[:])
	h.Write([]byte(nonceDomain))
	h.Write(d[:nonceHead])
	h.Write(environment[:])
	return h.Sum(nil)[:len(d)-nonceHead]
}

// check refuses a nonce that this server did not make for this environment, or whose time is over.
func (n *nonces) check(d, environment binding.Digest, now time.Time) error {
	if subtle.ConstantTimeCompare(n.tag(d, environment), d[nonceHead:]) != 1 {
		return &refusal.Refusal{
			Link: linkNonce, Code: refusal.Binding, Want: "a nonce that this server made for this environment", Got: "another",
			Next: "ask for a challenge again; a server that was started anew knows no nonce of before",
		}
	}
	if made := n.made(d); now.Before(made) || !now.Before(made.Add(n.life)) {
		return &refusal.Refusal{
			Link: linkNonce, Code: refusal.Expired, Want: "a nonce that is at most " + n.life.String() + " old",
			Got: "one of " + made.UTC().Format(time.RFC3339), Next: "ask for a challenge again",
		}
	}
	return nil
}

func (n *nonces) made(d binding.Digest) time.Time {
	return time.Unix(0, int64(binary.BigEndian.Uint64(d[:nonceTime]))) //nolint:gosec // the tag shows that it is ours.
}

// use marks a checked nonce as used. The second time it is refused; errBusy where no more can be remembered.
func (n *nonces) use(d binding.Digest, now time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, twice := n.used[d]; twice {
		return &refusal.Refusal{
			Link: linkNonce, Code: refusal.Binding, Want: "a nonce that was not used before", Got: "a used one",
			Next: "ask for a challenge for each request; if this machine did, somebody replays what it sends",
		}
	}
	if len(n.used) >= n.limit {
		for old, until := range n.used {
			if !now.Before(until) {
				delete(n.used, old)
			}
		}
	}
	if len(n.used) >= n.limit {
		return errBusy
	}
	n.used[d] = n.made(d).Add(n.life)
	return nil
}
