// What the main thread gives a worker when it starts it, and what a worker posts back.

import type { Problem } from '../filesystem/problems.ts';
import { OUT_HEADER } from './abi.ts';
import { MAX_READ } from './init.ts';
import type { SessionEnd } from './session.ts';

/** Large enough that thousands of FORGETs come in one request. */
export const REQUEST_BUFFER_SIZE: number = 128 * 1024;
export const REPLY_BUFFER_SIZE: number = OUT_HEADER.SIZE + MAX_READ;

export interface WorkerSetup {
  index: number;
  /** The whole image. */
  image: SharedArrayBuffer;
  /** Descriptors of the base directories, in order. */
  basedirs: readonly number[];
  /** A path on the filesystem that statfs reports. */
  statisticsPath: string;
  acl: boolean;
  /** One shared word and its largest value: objects that are open over all workers. */
  openObjects: SharedArrayBuffer;
  openObjectsLimit: number;
  control: SharedArrayBuffer;
  wakeDescriptor: number;
  pollingMicroseconds: number;
  trace: boolean;
}

export type WorkerMessage =
  | { kind: 'serving' }
  | { kind: 'problem'; problem: Problem }
  | { kind: 'bug'; stack: string; opcode: number; nodeid: number }
  | { kind: 'refused-reply'; text: string }
  | { kind: 'trace'; text: string }
  | { kind: 'ended'; end: SessionEnd };
