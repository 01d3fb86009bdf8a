// IMAGE SEED FROM TO: walks variants, see variants.ts; prints the outcome as JSON.

import { readFileSync } from 'node:fs';
import { loadNative } from '../../dist/native.js';
import { importTypeScript } from '../../scripts/lib/typescript.mjs';

const [image, seed, from, to] = process.argv.slice(2);
const { walkVariants } = await importTypeScript('test/fuzz/variants.ts');
const bytes = new Uint8Array(readFileSync(image));
const outcome = walkVariants(loadNative(), bytes, Number(seed), Number(from), Number(to));
process.stdout.write(`${JSON.stringify(outcome)}\n`);
