// What is done on each mount: the rows of the table. Each is a command of workload.c, cold or warm.

import { join } from 'node:path';
import { forgetAll, forgetNames } from './caches.mjs';
import { run } from './processes.mjs';

const program = (corpus) => corpus.program;
const megabytes = (bytes) => Math.round(bytes / 1e6);
const show = (count) => count.toLocaleString('en');

const pythonModules = 'argparse, decimal, email.message, json, logging, sys, unittest';
const pythonLine = `import ${pythonModules}; print(len(sys.modules))`;

/** Runs workload.c; the sample is the seconds that it measured itself. */
async function workOn(corpus, args) {
  const output = await run(program(corpus), args);
  const [operations, bytes, seconds] = output.trim().split(' ').map(Number);
  if (!(seconds > 0)) throw new Error(`no time measured: ${output.trim()}`);
  return { value: seconds, work: `${operations} operations, ${bytes} bytes` };
}

/**
 * A row: `args(directory)` are those of workload.c, `prepare` makes it cold; without, the run comes
 * right after one of the same that is not measured.
 */
function row(corpus, name, args, prepare, missing) {
  const work = (mount) => workOn(corpus, args(mount.directory));
  return {
    section: 'workloads',
    name: `${name}, ${prepare === undefined ? 'warm' : 'cold'}`,
    unit: 's',
    skip: () => missing?.reason,
    prepare: prepare ?? work,
    run: work,
  };
}

/** All workloads for the corpus, in the order of the table. */
export function workloadsOf(corpus) {
  const { stat, read, tar, big, python, wide, labels, deep } = corpus;
  const cold = (name, args, part) => row(corpus, name, args, forgetNames, part);
  const warm = (name, args, part) => row(corpus, name, args, undefined, part);
  const empty = (name, args, part) =>
    row(corpus, name, args, (mount) => forgetAll(mount, part.objects), part);
  const names = (name, args) => [cold(name, args), warm(name, args)];
  const contents = (part, name, args) => [empty(name, args, part), warm(name, args, part)];
  const at = (path) => (directory) => join(directory, path);
  const tree = at(corpus.root);
  const file = at(big.path ?? '');
  const size = big.bytes === undefined ? 'a big file' : `${megabytes(big.bytes)} MB`;
  return [
    ...names('walk + stat', (dir) => ['walk', tree(dir)]),
    ...names(`${show(stat.count)} stats by path`, (dir) => ['stat', dir, stat.file]),
    ...contents(read, `open+read ${show(read.count)} small files`, (dir) => [
      'read',
      dir,
      read.file,
    ]),
    cold('two walkers at once', (dir) => ['walkers', '2', tree(dir)]),
    cold('four walkers at once', (dir) => ['walkers', '4', tree(dir)]),
    cold(
      `getxattr in ${show(labels.count ?? 0)} files`,
      (dir) => ['xattr', at('labels')(dir)],
      labels,
    ),
    cold(`list ${show(wide.count ?? 0)} names`, (dir) => ['list', at('wide')(dir)], wide),
    cold('walk 100 levels', (dir) => ['walk', at('deep')(dir)], deep),
    ...contents(big, `read ${size}`, (dir) => ['sequential', file(dir)]),
    ...contents(big, `20,000 preads in ${size}`, (dir) => ['random', file(dir), '20000']),
    ...contents(big, `touch ${size} by mmap`, (dir) => ['map', file(dir)]),
    ...contents(tar, `tar of ${show(tar.count)} files`, (dir) => [
      ...['pipe', 'tar', '-C', dir, '-cf', '-'],
      ...tar.names,
    ]),
    ...contents(python, 'start python3', (dir) => [
      ...['chroot', at('python')(dir), python.path ?? ''],
      ...['-I', '-S', '-B', '-c', pythonLine],
    ]),
  ];
}
