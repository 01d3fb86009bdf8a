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
  excess?: number;
  enabled?: 'sha256' | 'sha512' | 'none';
  guest?: boolean;
  before?: (path: string, system: System) => void;
  late?: (path: string, system: System) => void;
}

/** What a guest has beside the host. */
export interface System {
  enable: (path: string, algorithm: 'sha256' | 'sha512') => void;
  damage: (path: string, at: number) => void;
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
  system?: System;
  /** Another mount of the image, to compare with. */
  oracle?: string;
}

export interface AttackReport {
  /** For each mode, by row, what came of it. */
  cells: { mode: Mode; cells: Record<string, string> }[];
  /** What became of the attacks on open files: `done` or an errno. */
  late: Record<string, string>;
  /** Good files that could not be read. */
  lost: { mode: Mode; after: string; good: string; found: string }[];
  /** What came of each row at the other mount. */
  oracle?: Record<string, string>;
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
export declare function enableObjects(store: string, system: Pick<System, 'enable'>): void;
export declare function attackBefore(store: string, system?: System): Record<string, string>;
export declare function runAttacks(options: AttackOptions): Promise<AttackReport>;
