// What the kernel of this guest can do, found by doing it.

import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { loadNative } from '../../../dist/native.js';
import { folder, input, measure, mountExt4, must, run, runCases } from './harness.mjs';

const MS_RDONLY = 1;

function mountOverlay(options, separator) {
  const place = folder();
  for (const name of ['lower', 'data', 'mnt']) mkdirSync(join(place, name));
  const layers = `lowerdir=${join(place, 'lower')}${separator}${join(place, 'data')}`;
  const words = ['ro', 'metacopy=on', 'redirect_dir=on', ...options, layers].join(',');
  return run('mount', ['-t', 'overlay', 'overlay', '-o', words, join(place, 'mnt')]).code === 0;
}

await runCases({
  node: () => ({ version: process.version, release: release() }),
  filesystems: () => {
    const known = readFileSync('/proc/filesystems', 'utf8').trimEnd().split('\n');
    return known.map((line) => line.split('\t')[1]);
  },
  'fs-verity': () => {
    const file = join(mountExt4({ sizeMb: 16 }), 'file');
    writeFileSync(file, 'hello world');
    const before = measure(file) ?? 'none';
    must('fsverity', 'enable', file);
    return { before, after: measure(file) };
  },
  erofs: () => {
    const place = folder();
    must('mount', '-t', 'erofs', '-o', 'loop,ro', input.image, place);
    return readFileSync(join(place, 'hello'), 'utf8');
  },
  'erofs without a loop device': () => {
    // tmpfs has no read_folio, and such files erofs does not take.
    const image = join(mountExt4({ sizeMb: 16 }), 'image');
    copyFileSync(input.image, image);
    return loadNative().mount(image, folder(), 'erofs', MS_RDONLY, '', -1);
  },
  overlay: () => mountOverlay([], ':'),
  'data-only layers': () => mountOverlay([], '::'),
  'overlay verity': () => mountOverlay(['verity=require'], '::'),
});
