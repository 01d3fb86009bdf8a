// `npm run prebuild`: builds the addon for other machines of this kind into prebuilds/, afresh, and says
// which libraries they need. Runs before every `npm pack`, so that no package carries a stale one.

import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildAddon } from './lib/node-gyp.mjs';
import { capture } from './lib/process.mjs';

const root = join(import.meta.dirname, '..');
const file = 'composefs_native.node';

/** As hostName of src/load-addon.ts. */
function hostName() {
  const { glibcVersionRuntime } = process.report.getReport().header;
  return `${process.platform}-${process.arch}-${glibcVersionRuntime === undefined ? 'musl' : 'glibc'}`;
}

/** The newest versions of the C and C++ libraries that the symbols of `path` come from. */
function neededVersions(path) {
  const { stdout } = capture('objdump', ['-T', path]);
  return ['GLIBC', 'GLIBCXX'].map((name) => {
    const found = [...stdout.matchAll(new RegExp(`\\b${name}_(\\d[\\d.]*)`, 'g'))];
    const versions = found.map(([, version]) => version);
    const newest = versions.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1);
    return `${name} ${newest ?? 'unknown'}`;
  });
}

// In a folder of its own: build/ is the developer's, perhaps with sanitizers.
const folder = mkdtempSync(join(tmpdir(), 'composefs-prebuild-'));
try {
  cpSync(join(root, 'native'), join(folder, 'native'), { recursive: true });
  copyFileSync(join(root, 'binding.gyp'), join(folder, 'binding.gyp'));
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  const code = await buildAddon(folder);
  if (code !== 0) throw new Error(`node-gyp ended with exit code ${code}`);
  const prebuilds = join(root, 'prebuilds');
  const target = join(prebuilds, hostName());
  rmSync(prebuilds, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  copyFileSync(join(folder, 'build/Release', file), join(target, file));
  // The C++ library stays a shared one, which Node.js needs too: linked in statically it asks for glibc
  // 2.36 (arc4random, _dl_find_object) where everything else is content with 2.34.
  capture('strip', [join(target, file)]);
  // npm pack --json prints on standard output.
  console.error(`prebuild: ${hostName()} for ${neededVersions(join(target, file)).join(', ')}`);
} catch (error) {
  console.error(`prebuild: ${error.message}`);
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
