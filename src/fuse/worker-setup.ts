// What the main thread gives a worker when it starts it, and what a worker posts back.

import type { Passthrough } from '../filesystem/contents.ts';
import type { OwnershipRules } from '../filesystem/ownership.ts';
import type { Problem } from '../filesystem/problems.ts';
import type { TreeView } from '../filesystem/tree-view.ts';
import type { VerifyAt, VerifyEngine, VerityPolicy } from '../objects/verification.ts';
import { OUT_HEADER } from './abi.ts';
import type { DeferredRequest } from './deferred-requests.ts';
import { MAX_READ } from './init.ts';
import type { SessionEnd } from './session.ts';
import type { Transport } from './transport.ts';

/** Large enough that thousands of FORGETs come in one request. */
export const REQUEST_BUFFER_SIZE: number = 128 * 1024;
export const REPLY_BUFFER_SIZE: number = OUT_HEADER.SIZE + MAX_READ;

/** What any thread needs to serve requests of the mount. */
export interface ServingSetup {
  /** The whole image. */
  image: SharedArrayBuffer;
  /** Descriptors of the base directories, in order. */
  basedirs: readonly number[];
  /** A path on the filesystem that statfs reports. */
  statisticsPath: string;
  acl: boolean;
  view: TreeView;
  /** Undefined: owners are those of the image. */
  ownership: OwnershipRules | undefined;
  verification: VerificationSetup;
  /** Of createFileTable: the objects that are open, for all threads. */
  fileTable: number;
  /** Which objects the kernel may read by itself, if it can. */
  passthrough: Passthrough;
  /** Ends every exchange. */
  wakeDescriptor: number;
}

/** What a worker needs besides. */
export interface WorkerSetup extends ServingSetup {
  index: number;
  control: SharedArrayBuffer;
  /** What is hoped for; `control` will know what the kernel agreed to. */
  transport: Transport;
  /** Undefined: as long as it pays. */
  pollingMicroseconds: number | undefined;
  trace: boolean;
}

/** How objects are verified. */
export interface VerificationSetup {
  policy: VerityPolicy;
  engine: VerifyEngine;
  at: VerifyAt;
  /** Of VerificationState. */
  state: SharedArrayBuffer;
}

/** What a worker posts for the log. */
export type LoggedMessage =
  | { kind: 'problem'; problem: Problem }
  | { kind: 'bug'; stack: string; opcode: number; nodeid: number }
  | { kind: 'refused-reply'; text: string }
  | { kind: 'trace'; text: string }
  | { kind: 'ended'; end: SessionEnd };

export type WorkerMessage =
  | LoggedMessage
  | { kind: 'serving' }
  | ({ kind: 'deferred' } & DeferredRequest)
  | { kind: 'interrupt'; unique: bigint };
