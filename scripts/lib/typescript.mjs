// Imports a TypeScript file from a plain Node script: Node 20 does not read TypeScript, and the
// test support code is not part of dist/. The compiled copy lies below node_modules, so that the
// packages it imports are found.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from '../setup.mjs';
import { capture } from './process.mjs';

/** The module at `path` (relative to the project), compiled with what it imports. */
export async function importTypeScript(path) {
  const cache = join(root, 'node_modules/.cache');
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, 'composefs-'));
  try {
    const config = {
      extends: join(root, 'tsconfig.json'),
      compilerOptions: {
        outDir: join(folder, 'out'),
        rootDir: root,
        declaration: false,
        declarationMap: false,
        isolatedDeclarations: false,
        sourceMap: false,
      },
      include: [],
      files: [join(root, path)],
    };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config));
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    const result = capture(process.execPath, [tsc, '-p', folder], { timeoutMs: 120_000 });
    if (result.code !== 0) throw new Error(`cannot compile ${path}: ${result.stdout}`);
    const output = join(folder, 'out', relative('.', path).replace(/\.ts$/, '.js'));
    return await import(pathToFileURL(output).href);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
