// SPDX-License-Identifier: Apache-2.0

package admission

// One seal of "golden" for the terms and the key of the tests. Never edit it: what does not open it any more is version 2.
const (
	goldenEncapsulated = "ac0a3ce016c07217c733fb1557385ef7dd9fe167edef9929e1395c6470c2dd2b"
	goldenCiphertext   = "9f8cd0a75e1b9a5cfa4c7bb76163adf8bcdd2b341c76"
	goldenInfo         = "6b6574746c652f6174746573742061646d697373696f6e2072656c656173652076310078377b525757b494427f89014f97d79928f3938d14eb51e20fb5dec9834eb" +
		"304ba5285161ba6eed0085fb13784ce5c92f70ebc268b94fd66aa1d68a32884204d9b16d501cd6eaaf34864d581623c74cdcd1e2ce55cc1d7472dcd1ea517953d51"
)
