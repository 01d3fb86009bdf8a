// Finds the native addon and loads it: the one that was built on this machine, else the prebuilt one of
// this package that fits platform, processor and C library. src/native.ts says what is in it.

import { closeSync, openSync, readSync } from 'node:fs';
import { createRequire } from 'node:module';
import { AddonError } from './errors.ts';

/** Where the name of the C library's loader is in every Node.js that was looked at: in the first page. */
const LOADER_WITHIN_BYTES = 4096;
/** The errors that mean: there is no such file. */
const NOT_THERE: ReadonlySet<string | undefined> = new Set(['MODULE_NOT_FOUND', 'ENOENT']);

/**
 * The addon's exports. Throws AddonError with the command that builds it when there is none that fits;
 * its cause is what the loader said, if there is one that does not.
 */
export function loadAddon(): unknown {
  const require = createRequire(import.meta.url);
  let cause: unknown;
  for (const find of [() => '#addon', () => `#prebuilds/${hostName()}`]) {
    try {
      return require(find());
    } catch (error) {
      if (!NOT_THERE.has((error as NodeJS.ErrnoException).code)) cause ??= error;
    }
  }
  throw new AddonError(
    `no native addon for ${hostName()} can be loaded (Node.js ${process.version}); ` +
      `build it with: npm --prefix ${quote(packageFolder(require))} run build:native`,
    cause === undefined ? undefined : { cause },
  );
}

/** As the folders of prebuilds/ are called: `linux-x64-glibc`. */
function hostName(): string {
  return `${process.platform}-${process.arch}-${usesMusl() ? 'musl' : 'glibc'}`;
}

/** Looks which loader this program asks for. process.report knows too, but takes 5 ms to say so. */
function usesMusl(): boolean {
  try {
    const page = Buffer.alloc(LOADER_WITHIN_BYTES);
    const fd = openSync(process.execPath, 'r');
    readSync(fd, page);
    closeSync(fd);
    return page.includes('/ld-musl-');
  } catch {
    return false;
  }
}

function packageFolder(require: NodeJS.Require): string {
  return require.resolve('composefs-fuse/package.json').replace(/\/[^/]*$/, '');
}

/** As one word of a shell. */
function quote(path: string): string {
  return /^[\w./@+-]+$/.test(path) ? path : `'${path.replaceAll("'", String.raw`'\''`)}'`;
}
