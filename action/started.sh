#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The started hook. GitHub's runner goes on to steps with "if: always()" when a hook fails or is cancelled, so this one
# returns only when kettled has allowed the job. Otherwise it waits for its end: kettled kills the sandbox. Cancelling
# signals this shell first, which then must outlive kettle-action.
trap '' HUP INT TERM
/usr/lib/kettle/kettle-action started && exit 0
exec /usr/bin/sleep infinity
