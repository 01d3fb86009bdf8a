// Entries per second of a cold walk as images grow. The images are made from generated dumps; their
// objects do not exist, which a walk does not notice. Each size is mounted by itself and unmounted
// before the next.

import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../../scripts/setup.mjs';
import { forgetNames } from './caches.mjs';
import { writeDumpOf } from './generated-dump.mjs';
import { mountAs } from './mounts.mjs';
import { run } from './processes.mjs';
import { measureInRounds, showProgress } from './rounds.mjs';

const sizes = [1_000, 10_000, 100_000, 1_000_000];
const quickSizes = [1_000, 10_000];

async function makeImage(folder, count) {
  const [dump, image] = [join(folder, `${count}.dump`), join(folder, `${count}.cfs`)];
  writeDumpOf(count, dump);
  const mkcomposefs = join(root, 'dist/cli/mkcomposefs.js');
  await run(process.execPath, [mkcomposefs, '--from-file', dump, image]);
  rmSync(dump);
  return image;
}

function walkTask(program, count) {
  return {
    section: 'scale',
    name: `walk + stat of ${count.toLocaleString('en')} entries, cold`,
    unit: 'entries/s',
    prepare: forgetNames,
    run: async (mount) => {
      const output = await run(program, ['walk', mount.directory]);
      const [operations, , seconds] = output.split(' ').map(Number);
      return { value: operations / seconds, work: `${operations} operations` };
    },
  };
}

/** Measures the kernel's mount and one of ours at every size. */
export async function measureScale(kinds, folder, program, { quick, rounds, only }) {
  const measurements = [];
  for (const count of quick ? quickSizes : sizes) {
    const task = walkTask(program, count);
    if (!task.name.includes(only)) continue;
    showProgress(`scale: making an image of ${count.toLocaleString('en')} entries`);
    const place = join(folder, `scale-${count}`);
    const objects = join(place, 'objects');
    mkdirSync(objects, { recursive: true });
    const image = await makeImage(place, count);
    const source = { image, basedirs: [objects] };
    const mounts = [];
    for (const kind of kinds) mounts.push(await mountAs(kind, source, join(place, kind.name)));
    measurements.push(...(await measureInRounds([task], mounts, rounds)));
    for (const mount of mounts) await mount.end();
    rmSync(place, { recursive: true });
  }
  return measurements;
}
