// SPDX-License-Identifier: Apache-2.0

// Package admission is the conversation between a build environment and the dispatcher that may release a runner's
// credential to it: the messages, and the seal of what is released.
//
//	environment → dispatcher   Hello: environment key, fresh bytes
//	dispatcher → environment   ADMISSION_CHALLENGE, signed: nonce, fresh bytes, time
//	environment → dispatcher   ADMISSION_REQUEST, signed and quoted for purpose admission with nonce and HPKE key;
//	                           BOOT, signed and quoted; the image's bundle, when asked for
//	dispatcher → environment   VSA-ENV and ADMISSION_RELEASE, signed: the sealed credential; or a refusal
//
// It guarantees that a message which was read is bounded and has the shape of its version, and that a seal opens with its
// key for the very nonce, environment, key and summary that it was made for. It says nothing about who speaks: signatures,
// quotes and TLS do, and both sides check them (dispatch/admission, runner/admission). It trusts crypto/hpke. It does no
// input or output.
package admission
