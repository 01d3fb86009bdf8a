// Who asks: what this process may do, which decides what is worth trying and how.

import { adminScope } from '../fuse/caller.ts';
import { readText } from './system.ts';

const CAP_SYS_ADMIN = 21n;

export interface Caller {
  uid: number;
  /** Where this process has CAP_SYS_ADMIN. */
  scope: 'initial' | 'namespace' | 'none';
  /** Setuid programs give it nothing (no_new_privs). */
  hasNoNewPrivileges: boolean;
  /** Whether a setuid program may have CAP_SYS_ADMIN: containers take it from all of theirs. */
  mayGainAdmin: boolean;
}

export function lookAtCaller(): Caller {
  const status = readText('/proc/self/status') ?? '';
  const bounding = /^CapBnd:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0';
  return {
    uid: process.getuid?.() ?? 0,
    scope: adminScope(process.pid),
    hasNoNewPrivileges: /^NoNewPrivs:\s*1$/m.test(status),
    mayGainAdmin: ((BigInt(`0x${bounding}`) >> CAP_SYS_ADMIN) & 1n) === 1n,
  };
}
