// Puts the daemon into two files beside the command that starts it, one for its main thread and one for
// its workers, and mount.composefs into one. Node.js takes 100 ms to find, read and link 100 modules, and 10 for the same in one file;
// CommonJS, since that needs no module loader of its own (docs/performance.md, "Start").

import { chmodSync, copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const root = join(import.meta.dirname, '..');
const banner = "const bundleUrl = require('node:url').pathToFileURL(__filename).href;";

await build({
  absWorkingDir: root,
  entryPoints: {
    command: 'src/cli/command.ts',
    worker: 'src/fuse/worker.ts',
    'mount-composefs': 'src/cli/mount-composefs.ts',
  },
  outdir: 'dist/cli',
  outExtension: { '.js': '.cjs' },
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'cjs',
  // There is no import.meta in CommonJS.
  define: { 'import.meta.url': 'bundleUrl' },
  banner: { js: banner },
  // Names and lines as in the sources, for the stack traces in the log; the maps give the rest.
  minify: false,
  sourcemap: 'linked',
  sourcesContent: false,
  logLevel: 'warning',
});

const launcher = join(root, 'dist/cli/composefs-fuse');
copyFileSync(join(root, 'src/cli/composefs-fuse.sh'), launcher);
chmodSync(launcher, 0o755);
chmodSync(join(root, 'dist/cli/mount-composefs.cjs'), 0o755);
