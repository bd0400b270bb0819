// SPDX-License-Identifier: Apache-2.0

package fakesigstore

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sync"

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
)

// tree is the log of signatures: a Merkle tree as RFC 6962 section 2.1 has it, with checkpoints as C2SP's tlog-checkpoint
// has them.
type tree struct {
	origin string
	key    *ecdsa.PrivateKey
	id     [sha256.Size]byte

	mu     sync.Mutex
	leaves [][sha256.Size]byte // mu
}

// newTree makes a log that holds some entries of others already, so that every proof has hashes.
func newTree(origin string) (*tree, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	t := &tree{origin: origin, key: key}
	if _, t.id, err = keyID(key); err != nil {
		return nil, err
	}
	for _, other := range []string{"one", "another", "a third"} {
		t.leaves = append(t.leaves, leafHash([]byte(other)))
	}
	return t, nil
}

// hashedRekord is the body of an entry, hashedrekord 0.0.2, with its fields in the order that RFC 8785 demands.
type hashedRekord struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		HashedRekordV002 struct {
			Data struct {
				Algorithm string `json:"algorithm"`
				Digest    []byte `json:"digest"`
			} `json:"data"`
			Signature rekorSignature `json:"signature"`
		} `json:"hashedRekordV002"`
	} `json:"spec"`
}

// rekorSignature is the signature of an entry and of the request for one.
type rekorSignature struct {
	Content  []byte        `json:"content"`
	Verifier rekorVerifier `json:"verifier"`
}

type rekorVerifier struct {
	KeyDetails      string    `json:"keyDetails"`
	PublicKey       *rawBytes `json:"publicKey,omitempty"`
	X509Certificate *rawBytes `json:"x509Certificate,omitempty"`
}

type rawBytes struct {
	RawBytes []byte `json:"rawBytes"`
}

// add logs a signature over a digest and gives the entry with its proof.
func (t *tree) add(digest []byte, sig rekorSignature) (*protorekor.TransparencyLogEntry, error) {
	body := hashedRekord{APIVersion: "0.0.2", Kind: "hashedrekord"}
	body.Spec.HashedRekordV002.Data.Algorithm, body.Spec.HashedRekordV002.Data.Digest = "SHA2_256", digest
	body.Spec.HashedRekordV002.Signature = sig
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encoding entry: %w", err)
	}
	t.mu.Lock()
	t.leaves = append(t.leaves, leafHash(text))
	leaves := t.leaves[:len(t.leaves):len(t.leaves)]
	t.mu.Unlock()

	index, root := len(leaves)-1, rootHash(leaves)
	checkpoint, err := t.checkpoint(len(leaves), root)
	if err != nil {
		return nil, err
	}
	return &protorekor.TransparencyLogEntry{
		LogIndex: int64(index), LogId: &protocommon.LogId{KeyId: t.id[:]},
		KindVersion: &protorekor.KindVersion{Kind: body.Kind, Version: body.APIVersion}, CanonicalizedBody: text,
		InclusionProof: &protorekor.InclusionProof{
			LogIndex: int64(index), RootHash: root[:], TreeSize: int64(len(leaves)), Hashes: path(index, leaves),
			Checkpoint: &protorekor.Checkpoint{Envelope: checkpoint},
		},
	}, nil
}

// checkpoint signs size and root as a note. An ECDSA key is named by the hash of its SubjectPublicKeyInfo alone.
func (t *tree) checkpoint(size int, root [sha256.Size]byte) (string, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", t.origin, size, base64.StdEncoding.EncodeToString(root[:]))
	sum := sha256.Sum256([]byte(text))
	sig, err := ecdsa.SignASN1(rand.Reader, t.key, sum[:])
	if err != nil {
		return "", fmt.Errorf("signing checkpoint: %w", err)
	}
	named := append(t.id[:4:4], sig...)
	return fmt.Sprintf("%s\n\u2014 %s %s\n", text, t.origin, base64.StdEncoding.EncodeToString(named)), nil
}

func leafHash(data []byte) [sha256.Size]byte { return sha256.Sum256(append([]byte{0}, data...)) }

// rootHash gives the hash of a tree with at least one leaf.
func rootHash(leaves [][sha256.Size]byte) [sha256.Size]byte {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := split(len(leaves))
	left, right := rootHash(leaves[:k]), rootHash(leaves[k:])
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}

// path gives the audit path of a leaf, its nearest neighbour first.
func path(index int, leaves [][sha256.Size]byte) [][]byte {
	if len(leaves) == 1 {
		return nil
	}
	k := split(len(leaves))
	if index < k {
		other := rootHash(leaves[k:])
		return append(path(index, leaves[:k]), other[:])
	}
	other := rootHash(leaves[:k])
	return append(path(index-k, leaves[k:]), other[:])
}

// split gives the largest power of two below n, which is at least 2.
func split(n int) int {
	k := 1
	for k*2 < n {
		k *= 2
	}
	return k
}
