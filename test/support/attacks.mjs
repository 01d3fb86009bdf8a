// Attacks on the objects behind a mount, and what comes of them. Plain Node without packages, so that
// it runs on the host and in a guest alike; what should come of them is said in the tests.
//
//   writeObjects(store)       the good objects, in a directory
//   enableObjects(store, …)   gives them the kernel's fs-verity, where there is any
//   attackBefore(store)       what an attacker does to some of them before anybody mounts
//   runAttacks({ store, … })  mounts once for each mode, reads, attacks what is open, reads again
//
// The image comes from attack-image.ts, on the host. Every attack has an object of its own, so that
// all modes share one store and one run.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const reader = fileURLToPath(new URL('./attack-reader.mjs', import.meta.url));
const SMALL = 10_000;
/** More than 128 KiB, and more than one hash block covers. */
const LARGE = 1_300_000;
const TIME_LIMIT_MS = 20_000;

/** Changes one byte where it lies and puts the times back, as far as anybody can. */
export function flip(path, at) {
  const { atime, mtime } = statSync(path);
  const fd = openSync(path, 'r+');
  try {
    const byte = Buffer.alloc(1);
    readSync(fd, byte, 0, 1, at);
    byte[0] ^= 0x40;
    writeSync(fd, byte, 0, 1, at);
  } finally {
    closeSync(fd);
  }
  utimesSync(path, atime, mtime);
}

const middleOf = (path) => Math.floor(statSync(path).size / 2);
const flipMiddle = (path) => flip(path, middleOf(path));
const shorten = (path) => truncateSync(path, statSync(path).size - 1);
const lengthen = (path) => appendFileSync(path, '\0');
const remove = (path) => rmSync(path);
/** Another good object, complete, in its place. */
function replace(path) {
  const { size } = statSync(path);
  writeFileSync(`${path}.new`, bytesOf(size, 999));
  renameSync(`${path}.new`, path);
}

/** A copy in its place, with a change, and with fs-verity of its own if `isEnabled`. */
const copied =
  (change, isEnabled = false) =>
  (path, { enable }) => {
    const bytes = readFileSync(path);
    writeFileSync(`${path}.new`, change(bytes) ?? bytes);
    if (isEnabled) enable(`${path}.new`, 'sha256');
    renameSync(`${path}.new`, path);
  };
const same = () => undefined;
const flippedIn = (bytes) => void (bytes[bytes.length >> 1] ^= 0x40);
const shortenedIn = (bytes) => bytes.subarray(0, -1);
const lengthenedIn = (bytes) => Buffer.concat([bytes, Buffer.of(0)]);
const replacedIn = (bytes) => bytesOf(bytes.length, 999);
/** Below the filesystem, which does not notice. */
const damage = (path, { damage: damageAt }) => damageAt(path, middleOf(path));

/**
 * The files of the image. `digest` is what the image says of the object: `right` (SHA-256),
 * `right-sha512`, `none`, `other` (of another content), or `malformed` (SHA-512's number with 32
 * bytes). `before` is done to the object before the mount, `late` while a file of it is open and has
 * been read. `excess`: so many bytes more than the object has are said to be in the file. `enabled`: the
 * algorithm with which the object has fs-verity (that of the image's digest), or none. `guest`: only
 * where there is fs-verity.
 */
export const files = {
  good: {},
  'good, large': { size: LARGE },
  'good, sha512': { digest: 'right-sha512' },
  'good, not enabled': { enabled: 'none' },
  'no digest': { digest: 'none' },
  'other digest': { digest: 'other' },
  'other digest, large': { digest: 'other', size: LARGE },
  'malformed digest': { digest: 'malformed' },
  'wrong size': { excess: 1 },
  replaced: { before: replace },
  flipped: { before: flipMiddle },
  'flipped, large': { before: flipMiddle, size: LARGE },
  'flipped, no digest': { before: flipMiddle, digest: 'none' },
  truncated: { before: shorten },
  longer: { before: lengthen },
  missing: { before: remove },
  'other algorithm': { enabled: 'sha512', guest: true },
  'other algorithm in the image': { digest: 'right-sha512', enabled: 'sha256', guest: true },
  'replaced, enabled': { before: copied(replacedIn, true), guest: true },
  copied: { before: copied(same), guest: true },
  'copied, enabled': { before: copied(same, true), guest: true },
  'flipped copy': { before: copied(flippedIn), guest: true },
  'flipped copy, enabled': { before: copied(flippedIn, true), guest: true },
  'truncated copy': { before: copied(shortenedIn), guest: true },
  'truncated copy, enabled': { before: copied(shortenedIn, true), guest: true },
  'longer copy, enabled': { before: copied(lengthenedIn, true), guest: true },
  'damaged disk': { before: damage, guest: true },
  'damaged disk, large': { before: damage, size: LARGE, guest: true },
  'damaged disk, no digest': { before: damage, digest: 'none', guest: true },
  'late flip': { late: flipMiddle },
  'late flip, large': { late: flipMiddle, size: LARGE },
  'late truncation': { late: shorten },
  'late replacement': { late: replace },
  'late removal': { late: remove },
  'late replacement, enabled': { late: copied(replacedIn, true), guest: true },
  'late damage on disk': { late: damage, guest: true },
  'late damage on disk, large': { late: damage, size: LARGE, guest: true },
  // The log line of one of these comes after all lines of what was read before it.
  'barrier 1': { before: remove },
  'barrier 2': { before: remove },
  'barrier 3': { before: remove },
};

const isBarrier = (name) => name.startsWith('barrier');
/** `system` is what a guest has beside the host: `enable(path, algorithm)` and `damage(path, at)`. */
const isThere = (system) => (name) => system !== undefined || files[name].guest !== true;
const barriers = Object.keys(files).filter(isBarrier);
const numberOf = (name) => Object.keys(files).indexOf(name);
const goodNames = ['good', 'good, large'];

/** Bytes that differ from block to block and from one seed to the next. */
export function bytesOf(size, seed) {
  const bytes = Buffer.allocUnsafe(size);
  for (let i = 0; i < size; i++) bytes[i] = (i * 7 + (i >>> 12) * 13 + seed * 31 + 3) % 251;
  return bytes;
}

const contents = new Map();
export function contentOf(name) {
  const content = contents.get(name) ?? bytesOf(files[name].size ?? SMALL, numberOf(name));
  contents.set(name, content);
  return content;
}
/** As the image has it, relative to the store. */
export const objectPathOf = (name) => `objects/${numberOf(name)}`;
/** The name in the mount. */
export const fileNameOf = (name) => name;

export function writeObjects(store) {
  for (const name of Object.keys(files)) {
    const path = join(store, objectPathOf(name));
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, contentOf(name));
  }
}

/** Gives fs-verity to all objects that are meant to have it. */
export function enableObjects(store, { enable }) {
  for (const [name, { enabled, digest }] of Object.entries(files)) {
    const algorithm = enabled ?? (digest === 'right-sha512' ? 'sha512' : 'sha256');
    if (algorithm !== 'none') enable(join(store, objectPathOf(name)), algorithm);
  }
}

/** `done`, or the errno of an attack that the system does not let happen. */
function attempt(attack, path, system) {
  try {
    attack(path, system);
    return 'done';
  } catch (error) {
    if (error.code === undefined) throw error;
    return error.code;
  }
}

/** What became of each attack, by name. */
export function attackBefore(store, system) {
  const attacked = Object.keys(files).filter((name) => files[name].before !== undefined);
  const outcomeOf = (name) => attempt(files[name].before, join(store, objectPathOf(name)), system);
  return Object.fromEntries(
    attacked.filter(isThere(system)).map((name) => [name, outcomeOf(name)]),
  );
}

/** All combinations of options. */
export const modes = ['open', 'read'].flatMap((at) =>
  ['off', 'if-present', 'require'].flatMap((policy) =>
    ['auto', 'kernel', 'user'].map((engine) => ({ policy, engine, at })),
  ),
);

export const argumentsOf = ({ policy, engine, at }) => [
  '--verity',
  policy,
  '--verify-engine',
  engine,
  // With passthrough, what is read later is the kernel's business: e2e/data-modes.test.ts.
  '--data',
  'daemon',
  '--verify-at',
  at,
];

/** The child that reads. Its answers come in the order of the requests. */
class Reader {
  #waiting = [];
  #child = spawn(process.execPath, [reader], { stdio: ['pipe', 'pipe', 'inherit'] });

  constructor() {
    const lines = createInterface({ input: this.#child.stdout });
    lines.on('line', (line) => this.#waiting.shift()?.resolve(JSON.parse(line)));
    lines.on('close', () => {
      for (const { reject } of this.#waiting) reject(new Error('the reader has ended'));
    });
    this.#child.stdin.on('error', () => undefined);
  }

  ask(request) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#child.kill('SIGKILL');
        reject(new Error(`no end of ${JSON.stringify(request)}`));
      }, TIME_LIMIT_MS);
      const settle = (settled) => (value) => {
        clearTimeout(timer);
        settled(value);
      };
      this.#waiting.push({ resolve: settle(resolve), reject: settle(reject) });
      this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    });
  }

  end() {
    this.#child.kill('SIGKILL');
  }
}

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** `right`, `WRONG`, `open: ERRNO`, or `read: ERRNO`, wrong bytes before an error being `WRONG`. */
function judge(content, { openError, readError, length, sha256: found }) {
  if (openError !== undefined) return `open: ${openError}`;
  if (found !== sha256(content.subarray(0, length))) return 'WRONG';
  if (readError !== undefined) return `read: ${readError}`;
  return length === content.length ? 'right' : 'WRONG';
}

const dropCaches = () => writeFileSync('/proc/sys/vm/drop_caches', '1');

/** Polls, since nothing announces a line of a log. */
async function waitFor(what, find) {
  const end = performance.now() + TIME_LIMIT_MS;
  for (;;) {
    const found = find();
    if (found !== undefined) return found;
    if (performance.now() > end) throw new Error(`waited in vain for ${what}`);
    await delay(2);
  }
}

/** One mount with what has been seen of it. */
class Observed {
  #refused = 0;
  #logged = new Map();
  #reading;
  #isThorough;
  cells = new Map();

  /** `isThorough`: after every row the counters and the good files are looked at. */
  constructor(reading, mode, mount, isThorough) {
    this.#reading = reading;
    this.#isThorough = isThorough;
    this.mode = mode;
    this.mount = mount;
  }

  /** What a file is like, in a word or two. */
  async #look(name, how = {}) {
    const path = join(this.mount.mountpoint, fileNameOf(name));
    return judge(contentOf(name), await this.#reading.ask({ path, ...how }));
  }

  /** Reads a file, and the good ones after it. The good ones that are not right. */
  async visit(row, name, how) {
    const found = await this.#look(name, how);
    const isCounted = this.#isThorough && (await this.#hasCounted());
    this.cells.set(row, isCounted ? `${found}, counted` : found);
    return this.#isThorough ? await this.lostAfter(row) : [];
  }

  /** The good files that are not right. */
  async lostAfter(row) {
    // Where the kernel is required and has no fs-verity, there are no good files.
    if (this.cells.get('good') !== 'right') return [];
    const lost = [];
    for (const good of goodNames) {
      const instead = await this.#look(good);
      if (instead !== 'right') lost.push({ mode: this.mode, after: row, good, found: instead });
    }
    return lost;
  }

  /** Whether a refusal has been counted since this was asked last. */
  async #hasCounted() {
    const { pid, events } = this.mount;
    const statistics = () => events().filter(({ msg }) => msg === 'verification so far');
    const before = statistics().length;
    process.kill(pid, 'SIGUSR1');
    const { refusedObjects, refusedReads } = await waitFor('statistics', () =>
      statistics().length > before ? statistics().at(-1) : undefined,
    );
    const hasGrown = refusedObjects + refusedReads > this.#refused;
    this.#refused = refusedObjects + refusedReads;
    return hasGrown;
  }

  /** Adds to the cells of these rows whether a line about the file was logged since the last time. */
  async addLog(rows, barrier) {
    if (this.mount.events === undefined) return;
    await this.#look(barrier);
    const linesOf = (name) =>
      this.mount.events().filter(({ path }) => path === `/${fileNameOf(name)}`).length;
    await waitFor('the log', () => (linesOf(barrier) > 0 ? true : undefined));
    for (const [row, name] of rows) {
      const count = linesOf(name) - (this.#logged.get(name) ?? 0);
      this.#logged.set(name, linesOf(name));
      if (count === 0) continue;
      this.cells.set(row, `${this.cells.get(row)}, logged${count > 1 ? ` ${count} times` : ''}`);
    }
  }
}

/**
 * Mounts the image once for each mode with `mount(arguments)`, which gives `{ mountpoint, pid,
 * events() }`, and reads every file, attacks, and reads again. Resolves to
 * - cells: for each mode, by row, what came of it and whether it was counted and logged
 * - late: what became of the attacks on open files, by name
 * - lost: good files that could not be read; none is right
 * - oracle: by row, what came of it at the mountpoint `oracle`, which is not ours
 */
export async function runAttacks({ store, mount, modes: wanted = modes, system, oracle }) {
  const reading = new Reader();
  // A guest is too slow for it.
  const isThorough = system === undefined;
  const names = Object.keys(files)
    .filter(isThere(system))
    .filter((name) => !isBarrier(name));
  try {
    const ours = await Promise.all(
      wanted.map(
        async (mode) => new Observed(reading, mode, await mount(argumentsOf(mode)), isThorough),
      ),
    );
    const theirs = oracle && new Observed(reading, undefined, { mountpoint: oracle }, false);
    const observed = theirs === undefined ? ours : [...ours, theirs];
    const late = {};
    const lost = [];
    /** One phase: each row is a file read in some way, and perhaps attacked then. */
    const visit = async (barrier, rows) => {
      for (const { row, name, how = {}, attack } of rows) {
        // Where a file could not be opened, there is nothing to be read.
        const isOpen = ({ cells }) => !cells.get(`${name}: first`).startsWith('open');
        const visited = how.kept ? observed.filter(isOpen) : observed;
        lost.push(...(await Promise.all(visited.map((each) => each.visit(row, name, how)))).flat());
        if (attack !== undefined) {
          late[name] = attempt(attack, join(store, objectPathOf(name)), system);
        }
      }
      if (!isThorough)
        lost.push(...(await Promise.all(ours.map((each) => each.lostAfter(barrier)))).flat());
      const rowNames = rows.map(({ row, name }) => [row, name]);
      await Promise.all(observed.map((each) => each.addLog(rowNames, barrier)));
      // Once for all of a phase: it takes the longest.
      dropCaches();
    };
    await visit(
      barriers[0],
      names.map((name) => {
        const attack = files[name].late;
        if (attack === undefined) return { row: name, name };
        return { row: `${name}: first`, name, how: { keep: true }, attack };
      }),
    );
    const attacked = Object.keys(late);
    await visit(
      barriers[1],
      attacked.map((name) => ({ row: `${name}: still open`, name, how: { kept: true } })),
    );
    await visit(
      barriers[2],
      attacked.map((name) => ({ row: `${name}: opened again`, name })),
    );
    return {
      late,
      lost,
      cells: ours.map(({ mode, cells }) => ({ mode, cells: Object.fromEntries(cells) })),
      oracle: theirs && Object.fromEntries(theirs.cells),
    };
  } finally {
    reading.end();
  }
}
