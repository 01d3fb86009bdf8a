// The command line of mount.mjs.

import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { modes } from './mounts.mjs';

export const help = `Usage: npm run bench -- [options]
       npm run bench -- --report RESULT.json [--svg FILE]

Measures mounts of one image side by side: the kernel's erofs + overlayfs, ours in several modes,
squashfuse_ll of the same files, and any others. Needs root.

  --rounds N          how often each workload runs on each mount (default 5; with --quick 1)
  --modes LIST        modes of ours, with commas between them (default: all)
                      ${Object.keys(modes).join(', ')}
  --threads N         serving threads of ours
  --peer NAME=DIR     another mount of the same tree (repeatable; only with --image)
  --image FILE        the image to measure, with --basedir DIR (repeatable); default: one that is
                      made for the run
  --only WORD         only what has WORD in its name
  --scale             also walks of images of 1,000 to 1,000,000 entries (in --quick always, smaller)
  --json FILE         write all samples with the facts of the machine
  --svg FILE          draw the ratios to the kernel
  --report FILE       measure nothing: print a result of --json as Markdown
  --quick             everything once with little of each: a smoke run
  --help              show this text

Exit codes: 0 done, also when a mount or a workload was left out for a reason that is printed;
1 a workload failed, or the benchmark could not run; 2 usage; 130, 143 stopped by a signal.
`;

export class UsageError extends Error {}

function wholeNumber(text, name) {
  if (!/^[1-9]\d{0,3}$/.test(text))
    throw new UsageError(`--${name} ${text}: expected a whole number from 1 to 9999`);
  return Number(text);
}

function parsePeer(text) {
  const [, name, directory] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (name === undefined) throw new UsageError(`--peer ${text}: expected NAME=DIR`);
  return { name, directory: resolve(directory) };
}

function parseModes(text) {
  const names = text.split(',').filter(Boolean);
  const unknown = names.find((name) => !Object.hasOwn(modes, name));
  if (unknown !== undefined)
    throw new UsageError(`--modes: no mode ${unknown}; there are ${Object.keys(modes).join(', ')}`);
  if (new Set(names).size !== names.length) throw new UsageError(`--modes ${text}: a mode twice`);
  return names;
}

const known = {
  image: { type: 'string' },
  basedir: { type: 'string', multiple: true, default: [] },
  peer: { type: 'string', multiple: true, default: [] },
  rounds: { type: 'string' },
  modes: { type: 'string', default: Object.keys(modes).join(',') },
  threads: { type: 'string' },
  only: { type: 'string', default: '' },
  json: { type: 'string' },
  svg: { type: 'string' },
  report: { type: 'string' },
  scale: { type: 'boolean', default: false },
  quick: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
};

function parse(args) {
  try {
    return parseArgs({ args, options: known }).values;
  } catch (error) {
    throw new UsageError(error.message);
  }
}

/** Throws a UsageError with one line. */
export function parseOptions(args) {
  const values = parse(args);
  const { quick, image } = values;
  const options = {
    ...values,
    rounds: values.rounds === undefined ? (quick ? 1 : 5) : wholeNumber(values.rounds, 'rounds'),
    modes: parseModes(values.modes),
    peers: values.peer.map(parsePeer),
    basedirs: values.basedir.map((path) => resolve(path)),
    scale: values.scale || quick,
    ...(image === undefined ? {} : { image: resolve(image) }),
  };
  if (values.threads !== undefined) wholeNumber(values.threads, 'threads');
  if (image === undefined && options.basedirs.length > 0)
    throw new UsageError('--basedir belongs to --image');
  if (image !== undefined && options.basedirs.length === 0)
    throw new UsageError('--image needs a --basedir with its objects');
  if (image === undefined && options.peers.length > 0)
    throw new UsageError('--peer needs --image: a peer cannot show an image made for this run');
  return options;
}
