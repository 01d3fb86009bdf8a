// What the process behind a request may see. FUSE sends a thread id; its capabilities are in /proc.

import { readFileSync, readlinkSync } from 'node:fs';
import type { RequestCaller } from './slot.ts';

/** Bit of CAP_SYS_ADMIN in CapEff (linux/capability.h). */
const CAP_SYS_ADMIN = 21n;
/** Inode number of the initial user namespace, PROC_USER_INIT_INO of linux/proc_ns.h. */
const INITIAL_USER_NAMESPACE = 'user:[4026531837]';

/** Where a process has CAP_SYS_ADMIN: `none` also when it cannot be told. */
export function adminScope(pid: number): 'initial' | 'namespace' | 'none' {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
    if (effective === undefined) return 'none';
    if (((BigInt(`0x${effective}`) >> CAP_SYS_ADMIN) & 1n) === 0n) return 'none';
    const namespace = readlinkSync(`/proc/${pid}/ns/user`);
    return namespace === INITIAL_USER_NAMESPACE ? 'initial' : 'namespace';
  } catch {
    return 'none';
  }
}

export class ProcCaller implements RequestCaller {
  pid = 0;

  /**
   * Whether the caller has CAP_SYS_ADMIN in the initial user namespace: the kernel's own condition
   * for trusted.* (reading the values is checked by the kernel before we are asked). False when it
   * cannot be told, for example for a caller outside the daemon's pid namespace.
   */
  canSeeTrusted(): boolean {
    return this.pid !== 0 && adminScope(this.pid) === 'initial';
  }
}
