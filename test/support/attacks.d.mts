// Types of attacks.mjs, which is plain Node: it also runs in guests, which have no compiler.

import type { VerifyAt, VerifyEngine, VerityPolicy } from '../../src/objects/verification.ts';

export interface Mode {
  policy: VerityPolicy;
  engine: VerifyEngine;
  at: VerifyAt;
}

export interface AttackedFile {
  size?: number;
  digest?: 'right' | 'right-sha512' | 'none' | 'other' | 'malformed';
  before?: (path: string) => void;
  late?: (path: string) => void;
}

/** A mount with what it has logged so far. */
export interface AttackedMount {
  mountpoint: string;
  pid: number;
  events: () => Record<string, unknown>[];
}

export interface AttackOptions {
  store: string;
  mount: (args: string[]) => AttackedMount | Promise<AttackedMount>;
  modes?: readonly Mode[];
}

export interface AttackReport {
  /** For each mode, by row, what came of it. */
  cells: { mode: Mode; cells: Record<string, string> }[];
  /** What became of the attacks on open files: `done` or an errno. */
  late: Record<string, string>;
  /** Good files that could not be read. */
  lost: { mode: Mode; after: string; good: string; found: string }[];
}

export declare const files: Readonly<Record<string, AttackedFile>>;
export declare const modes: readonly Mode[];
export declare function argumentsOf(mode: Mode): string[];
export declare function bytesOf(size: number, seed: number): Uint8Array;
export declare function contentOf(name: string): Uint8Array;
export declare function objectPathOf(name: string): string;
export declare function fileNameOf(name: string): string;
export declare function flip(path: string, at: number): void;
export declare function writeObjects(store: string): void;
export declare function attackBefore(store: string): Record<string, string>;
export declare function runAttacks(options: AttackOptions): Promise<AttackReport>;
