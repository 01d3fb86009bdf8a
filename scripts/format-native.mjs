// Formats native/*.{cc,h} with clang-format and the repository's .clang-format. With --check it
// changes nothing and fails on a difference. Without clang-format it says so and succeeds, so that
// `npm run format` works for people who touch only TypeScript.

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../native', import.meta.url));
const files = readdirSync(folder)
  .filter((name) => /\.(cc|h)$/.test(name))
  .map((name) => join(folder, name));
const mode = process.argv.includes('--check') ? ['--dry-run', '-Werror'] : ['-i'];

const result = spawnSync('clang-format', [...mode, '--style=file', ...files], { stdio: 'inherit' });
if (result.error?.code === 'ENOENT') {
  console.error('native/ is not formatted: clang-format is missing (Debian package clang-format)');
} else if (result.error !== undefined) {
  throw result.error;
} else {
  process.exitCode = result.status ?? 1;
}
