// SPDX-License-Identifier: Apache-2.0

package action

const usage = `kettle-action asks the build supervisor of an attested runner for provenance.

It runs inside the job. It sends names of files, never their digests: kettled, outside the job's reach, hashes the files
itself and has the result quoted by the CPU's secure processor.

Usage:
  kettle-action attest     attest files of this job; called by "uses: kettle/attest@v1"
  kettle-action status     show the state of this build environment
  kettle-action started    called by the runner's started hook, before the job's first step

Flags:
  --door PATH              kettled's socket (default /run/kettle/door.sock)
  --script FILE            ignored; lets a step name this program as its shell
  --help                   this text

attest reads its inputs from the environment, as action.yml sets them. Exactly one of the first three, or the runner's
list of artifacts when there is none:
  INPUT_SUBJECT_PATH        files: paths or patterns (dist/*, out/**), one a line or separated by commas;
                            a leading "!" excludes
  INPUT_SUBJECT_CHECKSUMS   a file as sha256sum writes it, or its text; kettled hashes each file itself and compares
  INPUT_SUBJECT_DIGEST      sha256:HEX of the file that INPUT_SUBJECT_NAME names; kettled hashes it itself and compares
  INPUT_SUBJECT_NAME        the name to attest a single file under
  INPUT_GITHUB_ATTESTATION  true (default) or false: also store the provenance with GitHub's attestations API
  INPUT_GITHUB_TOKEN        the job's token, with "attestations: write", for that
  INPUT_SHOW_SUMMARY        true (default) or false: write the step summary
and GITHUB_WORKSPACE, where relative paths start.

Outputs (in $GITHUB_OUTPUT): bundle-path, statement-path, checksums, attestation-id.

In a job with container:, the container needs the volumes /run/kettle:/run/kettle and /usr/lib/kettle:/usr/lib/kettle:ro,
and attests what lies below the workspace.

Example, in a workflow:
  jobs:
    build:
      runs-on: attested-cvm
      permissions: {contents: read, id-token: write, attestations: write}
      steps:
        - uses: actions/checkout@v4
        - run: make dist/widget.tar.gz
        - uses: kettle/attest@v1
          with:
            subject-path: dist/widget.tar.gz
then, anywhere:
  kettle verify widget.tar.gz --policy policy.yaml

Exit codes:
  0  done            3  refused: something is malformed or does not fit     6  not an attested runner
  1  failure         4  refused: something is missing or has expired      130  interrupted
  2  wrong inputs    5  refused: a policy is not met
`
