// Runs a function with the addon in a child Node process, so that an abort or a segmentation fault
// is a failed test and not a dead test runner. The function's source text is what travels: it may use
// its two arguments and Node's globals, nothing from the file it stands in.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { NativeAddon } from '../../src/native.ts';

export const addonPath: string = fileURLToPath(
  new URL('../../build/Release/composefs_native.node', import.meta.url),
);

/** What a body gets besides the addon. */
export interface ChildTools {
  addonPath: string;
  /** A folder or another JSON value that the test hands over. */
  input: string;
  require: NodeJS.Require;
  /** Descriptors open in the child at this moment. */
  countDescriptors: () => number;
}

type Body<T> = (native: NativeAddon, tools: ChildTools) => T | Promise<T>;

export interface ChildOptions {
  input?: string;
  nodeArgs?: string[];
  timeoutMs?: number;
}

/** The body's result. Throws with the child's end and stderr unless it exits with 0. */
export function runInChild<T>(body: Body<T>, options: ChildOptions = {}): T {
  const script = `
    const addonPath = ${JSON.stringify(addonPath)};
    const countDescriptors = () => require('node:fs').readdirSync('/proc/self/fd').length;
    const tools = { addonPath, input: ${JSON.stringify(options.input ?? '')}, require, countDescriptors };
    Promise.resolve((${body.toString()})(require(addonPath), tools)).then((result) => {
      require('node:fs').writeFileSync(3, JSON.stringify(result ?? null));
    });`;
  const child = spawnSync(process.execPath, [...(options.nodeArgs ?? []), '-e', script], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    timeout: options.timeoutMs ?? 25_000,
    maxBuffer: 1 << 26,
  });
  if (child.status !== 0) {
    throw new Error(
      `child: status ${child.status}, signal ${child.signal}\n${String(child.stderr)}`,
    );
  }
  return JSON.parse(String(child.output[3])) as T;
}
