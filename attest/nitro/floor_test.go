// SPDX-License-Identifier: Apache-2.0

package nitro_test

import (
	"testing"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/nitro"
	"github.com/kettle/attest/attest/nitro/nitrotest"
	"github.com/kettle/attest/attest/refusal"
)

func TestMeets(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	const debug, unmeasured = refusal.Debug, refusal.Measurement
	for _, c := range []struct {
		name  string
		field string
		pcrs  nitrotest.Item
		codes []refusal.Code
	}{
		{"enclave", "pcrs", nitrotest.Registers(16, 0, 1, 2), nil},
		{"enclave of three registers", "pcrs", nitrotest.Registers(3, 0, 1, 2), nil},
		{"debug enclave", "pcrs", nitrotest.Registers(16, 3, 4), []refusal.Code{debug, debug, debug}},
		{"enclave with register 0 at zero", "pcrs", nitrotest.Registers(16, 1, 2), []refusal.Code{debug}},
		{"enclave with register 1 at zero", "pcrs", nitrotest.Registers(16, 0, 2), []refusal.Code{debug}},
		{"enclave with register 2 at zero", "pcrs", nitrotest.Registers(16, 0, 1), []refusal.Code{debug}},
		{"enclave without register 2", "pcrs", nitrotest.Registers(2, 0, 1), []refusal.Code{debug}},
		{"instance", "nitrotpm_pcrs", nitrotest.Registers(24, 0, 1, 2, 3, 4, 5, 6, 7), nil},
		{"instance whose loader was not measured", "nitrotpm_pcrs", nitrotest.Registers(24, 0, 1, 2, 3, 5, 6, 7), []refusal.Code{unmeasured}},
		{"instance without register 7", "nitrotpm_pcrs", nitrotest.Registers(7, 0, 1, 2, 3, 4, 5, 6), []refusal.Code{unmeasured}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := good(t, p, p.Sign(p.NewDocument().Without("pcrs").With(c.field, c.pcrs).Payload()))
			if err := d.Meets(floor.Signature); err != nil {
				t.Error(err)
			}
			wantCodes(t, d.Meets(floor.Default), c.codes...)
			wantCodes(t, d.Meets(floor.Strict), c.codes...)
		})
	}
}

func TestMeetsNothing(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	d := good(t, p, p.Sign(p.NewDocument().Payload()))
	wantCodes(t, d.Meets(0), refusal.Missing)
	wantCodes(t, d.Meets(floor.Strict+1), refusal.Missing)
	var none *nitro.Document
	wantCodes(t, none.Meets(floor.Signature), refusal.Missing)
	wantCodes(t, new(nitro.Document).Meets(floor.Signature), refusal.Missing)
}
