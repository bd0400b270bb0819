// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/kettle/attest/attest/collect/fault"
)

const (
	nvBlock = 512 // MAX_NV_BUFFER_SIZE is at least this everywhere
	nvReads = 5   // until two reads of an index that changes are equal
)

// Index is the handle of an NV index.
type Index uint32

// index is a defined index.
type index struct {
	handle tpm2.NamedHandle
	public tpm2.TPMSNVPublic
}

func (t *TPM) index(ctx context.Context, n Index) (index, error) {
	doing := fmt.Sprintf("looking up NV index %#x", uint32(n))
	answer, err := run(ctx, t, tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(n)})
	if errors.Is(err, tpm2.TPMRCHandle) {
		return index{}, fmt.Errorf("%s: %w", doing, ErrAbsent)
	}
	if err != nil {
		return index{}, broken(ctx, doing, err)
	}
	public, err := answer.NVPublic.Contents()
	if err != nil {
		return index{}, broken(ctx, doing, err)
	}
	return index{tpm2.NamedHandle{Handle: tpm2.TPMHandle(n), Name: answer.NVName}, *public}, nil
}

// reader gives the authorization for a read: the owner's where the index allows that, as every tool for these indexes
// uses it, else the index's own. Both are empty in a machine that nobody took ownership of.
func (x index) reader() tpm2.AuthHandle { return x.auth(x.public.Attributes.OwnerRead) }

func (x index) writer() tpm2.AuthHandle { return x.auth(x.public.Attributes.OwnerWrite) }

func (x index) auth(owner bool) tpm2.AuthHandle {
	if owner {
		return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	}
	return tpm2.AuthHandle{Handle: x.handle.Handle, Name: x.handle.Name, Auth: tpm2.PasswordAuth(nil)}
}

// ReadNV reads a whole NV index, at most 64 KiB. An index that is not defined is [ErrAbsent]. An index that changes
// while it is read is read again, until two reads agree.
func (t *TPM) ReadNV(ctx context.Context, n Index) ([]byte, error) {
	var last []byte
	for range nvReads {
		x, err := t.index(ctx, n)
		if err != nil {
			return nil, err
		}
		data, err := t.readNV(ctx, x)
		if err != nil {
			return nil, broken(ctx, fmt.Sprintf("reading NV index %#x", uint32(n)), err)
		}
		if last != nil && bytes.Equal(last, data) || len(data) <= nvBlock {
			return data, nil
		}
		last = data
	}
	return nil, fault.Broken(fmt.Sprintf("reading NV index %#x", uint32(n)), errors.New("it changed during every read"))
}

func (t *TPM) readNV(ctx context.Context, x index) ([]byte, error) {
	size := int(x.public.DataSize)
	data := make([]byte, 0, size)
	for len(data) < size {
		want := min(nvBlock, size-len(data))
		answer, err := run(ctx, t, tpm2.NVRead{AuthHandle: x.reader(), NVIndex: x.handle, Size: uint16(want), Offset: uint16(len(data))}) //nolint:gosec // Below DataSize, a uint16.
		if err != nil {
			return nil, err
		}
		if len(answer.Data.Buffer) != want {
			return nil, fmt.Errorf("%d bytes at offset %d, want %d", len(answer.Data.Buffer), len(data), want)
		}
		data = append(data, answer.Data.Buffer...)
	}
	return data, nil
}

// WriteNV writes a whole NV index. One that is not defined is defined first, for the owner to read and write; one of
// another size is [fault.ErrBroken], since it is somebody else's.
func (t *TPM) WriteNV(ctx context.Context, n Index, data []byte) error {
	doing := fmt.Sprintf("writing NV index %#x", uint32(n))
	if len(data) == 0 || len(data) > nvBlock {
		return fmt.Errorf("%s: %d bytes, want 1 to %d", doing, len(data), nvBlock)
	}
	x, err := t.index(ctx, n)
	if errors.Is(err, ErrAbsent) {
		if err := t.defineNV(ctx, n, len(data)); err != nil {
			return broken(ctx, doing, err)
		}
		x, err = t.index(ctx, n)
	}
	if err != nil {
		return err
	}
	if int(x.public.DataSize) != len(data) {
		return fault.Broken(doing, fmt.Errorf("the index holds %d bytes, want %d", x.public.DataSize, len(data)))
	}
	_, err = run(ctx, t, tpm2.NVWrite{AuthHandle: x.writer(), NVIndex: x.handle, Data: tpm2.TPM2BMaxNVBuffer{Buffer: data}})
	if err != nil {
		return broken(ctx, doing, err)
	}
	return nil
}

func (t *TPM) defineNV(ctx context.Context, n Index, size int) error {
	_, err := run(ctx, t, tpm2.NVDefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: tpm2.TPMHandle(n), NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(size), //nolint:gosec // At most nvBlock.
			Attributes: tpm2.TPMANV{OwnerRead: true, OwnerWrite: true, NoDA: true},
		}),
	})
	return err
}
