// The images of the reference implementation, mounted by us and by the kernel: every field of every
// entry, every byte, every permission.

import { join } from 'node:path';
import { compareWithKernel } from '../support/differential.ts';
import { describeWith, goldenFolder, needsGoldens } from '../support/requirements.ts';

const objects = join(goldenFolder, 'objects');

describeWith([needsGoldens], 'reference images', () => {
  for (const name of ['zoo.cfs', 'overlay-markers.cfs'])
    for (const threads of [1, 2])
      compareWithKernel(`${name} with ${threads} serving ${threads === 1 ? 'thread' : 'threads'}`, {
        image: () => join(goldenFolder, name),
        basedirs: [objects],
        args: ['--threads', String(threads)],
        minimumEntries: 3000,
        // The second thread shares every answer with the first; two identities suffice for it.
        ...(threads === 1 ? {} : { seenBy: ['root', 'an unknown user'], deviceOnly: true }),
      });
});
