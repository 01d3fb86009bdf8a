// How a daemon in the background tells whoever started it that the mount is ready, or why there is
// none: one JSON line on an inherited descriptor, whose number is in an environment variable.

import { closeSync, writeSync } from 'node:fs';

/** Environment variable with the number of the descriptor. */
export const READY_FD_VARIABLE = 'COMPOSEFS_FUSE_READY_FD';
/** Set with it when the starter wants the mount to end when standard input does. */
export const LIFELINE_VARIABLE = 'COMPOSEFS_FUSE_LIFELINE';
/** What a daemon said there, when the shell that started it has it reported. */
export const SAID_VARIABLE = 'COMPOSEFS_FUSE_SAID';

export type Readiness =
  | { ready: true }
  | {
      ready: false;
      message: string;
      exitCode: number;
      /** ComposefsError's. */
      code?: string;
      /** What the error is about, where it is about a file. */
      path?: string;
      /** Digests, where the error is about them. */
      expected?: string;
      actual?: string;
    };

/**
 * Numbers of further descriptors that the starter could not keep from being inherited, with blanks between
 * them: they are its caller's, who may wait for them to be closed.
 */
export const INHERITED_VARIABLE = 'COMPOSEFS_FUSE_INHERITED';

/**
 * The starter's end of the descriptor, or none when started by hand. Closes what else came from it: to be
 * called first, while those numbers surely are what they were.
 */
export function takeReadyDescriptor(): number | undefined {
  const text = process.env[READY_FD_VARIABLE];
  const inherited = process.env[INHERITED_VARIABLE]?.match(/\d+/g) ?? [];
  delete process.env[READY_FD_VARIABLE];
  delete process.env[INHERITED_VARIABLE];
  for (const number of inherited) closeQuietly(Number(number));
  return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
}

function closeQuietly(descriptor: number): void {
  try {
    closeSync(descriptor);
  } catch {
    // It was closed on the way.
  }
}

/** Says it, once. False if the starter is gone and nobody listens. */
export function announce(descriptor: number, readiness: Readiness): boolean {
  try {
    writeSync(descriptor, `${JSON.stringify(readiness)}\n`);
    closeSync(descriptor);
    return true;
  } catch {
    return false;
  }
}

/** Reads what `announce` wrote; undefined if the daemon ended without a word. */
export function parseReadiness(text: string): Readiness | undefined {
  const line = text.split('\n')[0] ?? '';
  return line === '' ? undefined : (JSON.parse(line) as Readiness);
}
