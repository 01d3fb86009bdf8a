// Whether the caller of a request that takes long still wants the answer. FUSE says when a signal has
// come for it, any signal; but an answer of EINTR would fail a read or an open that the program means to
// go on with, and in a mapped file end it with SIGBUS.

import { readFileSync } from 'node:fs';

const SIGHUP = 1;
const SIGINT = 2;
const SIGQUIT = 3;
const SIGTERM = 15;
/** Signals that stop or do nothing by default: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH. */
const HARMLESS = setOf([17, 18, 19, 20, 21, 22, 23, 28]);
const ASKS_TO_END = setOf([SIGHUP, SIGINT, SIGQUIT, SIGTERM]);

function setOf(signals: readonly number[]): bigint {
  return signals.reduce((set, signal) => set | (1n << BigInt(signal - 1)), 0n);
}

/**
 * Whether a signal waits for thread `tid` that will end it, or, if the call may fail with EINTR
 * (`mayFail`: open, not read), one that asks it to end and that it handles. For a caller that cannot be
 * seen (another pid namespace): `mayFail`.
 */
export function hasGivenUp(tid: number, mayFail: boolean): boolean {
  let status: string;
  try {
    status = readFileSync(`/proc/${tid}/status`, 'latin1');
  } catch {
    return mayFail;
  }
  const set = (name: string): bigint => {
    const hex = new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1];
    return hex === undefined ? 0n : BigInt(`0x${hex}`);
  };
  const pending = (set('SigPnd') | set('ShdPnd')) & ~set('SigBlk') & ~set('SigIgn');
  const handled = set('SigCgt');
  const ends = pending & ~handled & ~HARMLESS;
  return ends !== 0n || (mayFail && (pending & handled & ASKS_TO_END) !== 0n);
}
