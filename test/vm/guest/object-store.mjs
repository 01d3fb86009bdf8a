// Object stores that mkcomposefs fills: on ext4 with fs-verity, and on tmpfs, which has none.

import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  folder,
  hasVerityAttribute,
  measure,
  mountExt4,
  must,
  ours,
  outcome,
  runCases,
} from './harness.mjs';

const source = folder();
const sizes = [65, 4096, 4097, 524_288, 524_289];
for (const size of sizes) writeFileSync(join(source, `${size}`), Buffer.alloc(size, `${size} `));
writeFileSync(join(source, 'same'), Buffer.alloc(4097, '4097 '));
writeFileSync(join(source, 'inline'), 'not in the store');

const onExt4 = join(mountExt4(), 'objects');
const onTmpfs = join(folder(), 'objects');

function fill(store) {
  mkdirSync(store, { recursive: true });
  const image = join(folder(), 'image.cfs');
  const made = must(...ours('mkcomposefs', '--json', '--digest-store', store, source, image));
  return { image, ...JSON.parse(made) };
}

function inspect(store) {
  const files = readdirSync(store, { recursive: true, withFileTypes: true });
  return files
    .filter((entry) => entry.isFile())
    .map((entry) => {
      const path = join(entry.parentPath, entry.name);
      const content = readFileSync(path);
      return {
        name: path.slice(store.length + 1).replace('/', ''),
        kernelDigest: measure(path) ?? 'none',
        hasAttribute: hasVerityAttribute(path),
        sizeBytes: content.length,
        isIntact: content.equals(Buffer.alloc(content.length, `${content.length} `)),
        write: outcome(() => {
          closeSync(openSync(path, 'r+'));
          return 'allowed';
        }),
        truncate: outcome(() => {
          truncateSync(path, content.length);
          return 'allowed';
        }),
      };
    });
}

await runCases({
  'fill ext4': () => fill(onExt4),
  'ext4 objects': () => inspect(onExt4),
  'fill ext4 again': () => fill(onExt4),
  'ext4 objects again': () => inspect(onExt4),
  'fill tmpfs': () => fill(onTmpfs),
  'tmpfs objects': () => inspect(onTmpfs),
});
