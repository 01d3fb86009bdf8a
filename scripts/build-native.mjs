// `npm run build:native`: builds the addon into build/Release of this package, in a clone as in an
// installed package. Arguments are definitions for gyp, such as -Dsanitize=1. Needs a C++ compiler, make
// and Python 3.

import { join } from 'node:path';
import { buildAddon } from './lib/node-gyp.mjs';

process.exitCode = await buildAddon(join(import.meta.dirname, '..'), process.argv.slice(2));
