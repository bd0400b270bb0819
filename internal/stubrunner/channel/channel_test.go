// SPDX-License-Identifier: Apache-2.0

package channel_test

import (
	"bytes"
	"testing"

	"github.com/kettle/attest/internal/stubrunner/channel"
)

func TestSendReceive(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := channel.Send(&b, channel.NewJob, []byte("job")); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	kind, body, err := channel.Receive(bytes.NewReader(whole))
	if kind != channel.NewJob || string(body) != "job" || err != nil {
		t.Errorf("got %v %q %v", kind, body, err)
	}
	for n := range whole {
		if _, _, err := channel.Receive(bytes.NewReader(whole[:n])); err == nil {
			t.Errorf("%d bytes were read as a message", n)
		}
	}
	if _, _, err := channel.Receive(bytes.NewReader([]byte{0, 0, 0, 1, 255, 255, 255, 255})); err == nil {
		t.Error("a huge message was read")
	}
}
