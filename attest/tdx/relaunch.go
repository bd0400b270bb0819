// SPDX-License-Identifier: Apache-2.0

package tdx

// A TDX module can be updated under a running TD. The TD then keeps the module of its launch in tee_tcb_svn, while
// tee_tcb_svn_2 names the one that runs: the platform is in order and only the TD has to be launched again. QVL
// (4.1.2.4.17.4.3) has two statuses for it; neither reaches a floor, but they say what to do.

// relaunchHelps reports whether only the module of the launch is behind.
func (q *Quote) relaunchHelps(info *tcbInfo, sgx Status, t TCB) bool {
	if q.bodyType != BodyTDX15 || t.QE != UpToDate || t.Module != OutOfDate ||
		(t.Status != OutOfDate && t.Status != OutOfDateConfigurationNeeded) {
		return false
	}
	switch sgx {
	case UpToDate, SWHardeningNeeded, ConfigurationNeeded, ConfigurationAndSWHardeningNeeded:
	default:
		return false
	}
	latest, now := info.levels[0].tdx, q.teeTCBSVN2
	if now[2] < latest[2] {
		return false
	}
	if now[1] == 0 {
		return now[0] >= latest[0]
	}
	running := *q
	running.teeTCBSVN = now
	m, found := running.module(&Collateral{tcb: info})
	return found && uint16(now[0]) >= m.levels[0].isvsvn
}

func relaunch(sgx, converged Status) Status {
	if sgx.needsConfiguration() || converged.needsConfiguration() {
		return TDRelaunchAdvisedConfigurationNeeded
	}
	return TDRelaunchAdvised
}
