// Objects with the kernel's fs-verity: what attacks on them come to in our mount and in the kernel's
// own, the digest of an image whose file has it, who reads such objects, and what checking them costs.

import { spawn } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { imageDigestCheck } from '../../../dist/fuse/image-digest.js';
import { loadNative } from '../../../dist/native.js';
import {
  attackBefore,
  bytesOf,
  enableObjects,
  runAttacks,
  writeObjects,
} from '../../support/attacks.mjs';
import {
  folder,
  input,
  mountExt4,
  mountKernel,
  mountOurs,
  must,
  ours,
  outcome,
  run,
  runCases,
} from './harness.mjs';

const dropCaches = () => writeFileSync('/proc/sys/vm/drop_caches', '1');

const enable = (path, algorithm) =>
  void must('fsverity', 'enable', `--hash-alg=${algorithm}`, path);

/** Flips a byte of a file in the filesystem's device, which is another file. */
function damageOn(disk) {
  const findBlock = `
import ctypes, os, sys
FIBMAP = 1
block = ctypes.c_int(int(sys.argv[2]))
with open(sys.argv[1], "rb") as file:
    os.sync()
    if ctypes.CDLL(None).ioctl(file.fileno(), FIBMAP, ctypes.byref(block)): sys.exit("FIBMAP")
print(block.value)`;
  return (path, at) => {
    const block = Number(must('python3', '-I', '-c', findBlock, path, `${at >> 12}`));
    if (block === 0) throw new Error(`${path} has no block ${at >> 12}`);
    const fd = openSync(disk, 'r+');
    const byte = Buffer.alloc(1);
    const place = block * 4096 + (at & 4095);
    readSync(fd, byte, 0, 1, place);
    byte[0] ^= 0x40;
    writeSync(fd, byte, 0, 1, place);
    closeSync(fd);
  };
}

/** Our mount by a daemon in the foreground: several start at the same time, with half the processes. */
async function serve(image, store, ...options) {
  const place = folder();
  const [log, mountpoint] = [join(place, 'log'), join(place, 'mnt')];
  mkdirSync(mountpoint);
  writeFileSync(log, '');
  const args = ['--foreground', '--log-file', log, '--basedir', store, ...options];
  const [command, ...rest] = ours('composefs-fuse', ...args, image, mountpoint);
  const { pid } = spawn(command, rest, { stdio: 'ignore' });
  const lines = () => readFileSync(log, 'utf8').split('\n').slice(0, -1);
  const events = () => lines().map((line) => JSON.parse(line));
  const end = performance.now() + 60_000;
  while (!events().some(({ msg }) => msg === 'mounted')) {
    if (performance.now() > end) throw new Error(`no mount: ${readFileSync(log, 'utf8')}`);
    await delay(100);
  }
  return { mountpoint, pid, events };
}

async function attacks() {
  const mountpoint = mountExt4();
  const store = join(mountpoint, 'store');
  const system = { enable, damage: damageOn(join(mountpoint, '../disk')) };
  writeObjects(store);
  enableObjects(store, system);
  const before = attackBefore(store, system);
  dropCaches();
  const oracle = input.hasOwnMount
    ? mountKernel(input.image, [store], { verity: 'require' })
    : undefined;
  const serving = [];
  // Two at a time, for two processors.
  const lanes = [Promise.resolve(), Promise.resolve()];
  const mount = (args) => {
    const lane = serving.length % lanes.length;
    const start = () => serve(input.image, store, '--threads', '1', ...args);
    lanes[lane] = lanes[lane].then(start);
    serving.push(lanes[lane]);
    return lanes[lane];
  };
  try {
    return { before, ...(await runAttacks({ store, mount, system, oracle, modes: input.modes })) };
  } finally {
    for (const { pid } of await Promise.all(serving)) process.kill(pid, 'SIGKILL');
  }
}

/** `--digest` with the digest of the image and with another one; e2e/image-digest.test.ts has the rest. */
function imageDigest() {
  const plain = join(mountExt4({ sizeMb: 16 }), 'plain.cfs');
  const enabled = `${plain}.enabled`;
  copyFileSync(input.image, plain);
  copyFileSync(input.image, enabled);
  enable(enabled, 'sha256');
  const mount = (image, digest) => {
    const mountpoint = folder();
    const args = ['--basedir', '/tmp', '--digest', digest, image, mountpoint];
    const [command, ...rest] = ours('composefs-fuse', '--log-file', '/dev/null', ...args);
    const { code, stderr } = run(command, rest);
    if (code === 0) must('umount', mountpoint);
    return { code, stderr: stderr.replaceAll(image, 'IMAGE') };
  };
  /** Whether other bytes than the file's pass: only where the file's digest is the kernel's word. */
  const passesUnhashed = (image) => {
    const fd = openSync(image, 'r');
    const check = imageDigestCheck(loadNative(), image, fd, input.digest);
    try {
      check(new Uint8Array(4096));
      return true;
    } catch (error) {
      if (error.name !== 'ImageDigestError') throw error;
      return false;
    } finally {
      closeSync(fd);
    }
  };
  const wrong = input.digest.replace(/^./, (digit) => (digit === '0' ? '1' : '0'));
  return {
    plain: { passesUnhashed: passesUnhashed(plain) },
    enabled: {
      right: mount(enabled, input.digest),
      wrong: mount(enabled, wrong),
      passesUnhashed: passesUnhashed(enabled),
    },
  };
}

/** Reads an open file while the daemon is stopped, and looks at what the page cache has of the object. */
const readAlone = `
import ctypes, hashlib, json, mmap, os, sys
path, object_path, pid = sys.argv[1], sys.argv[2], int(sys.argv[3])
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
size = os.stat(object_path).st_size
pages = -(-size // 4096)
behind = os.open(object_path, os.O_RDONLY)
memory = libc.mmap(None, ctypes.c_size_t(size), 1, 1, behind, ctypes.c_long(0))
def resident():
    found = (ctypes.c_ubyte * pages)()
    if libc.mincore(ctypes.c_void_p(memory), ctypes.c_size_t(size), found): sys.exit("mincore")
    return sum(each & 1 for each in found)
file = os.open(path, os.O_RDONLY)
SIGSTOP = 19
os.kill(pid, SIGSTOP)
open("/proc/sys/vm/drop_caches", "w").write("1")
before = resident()
content = b""
while part := os.pread(file, 1 << 20, len(content)): content += part
after = resident()
mapped = mmap.mmap(file, 0, prot=mmap.PROT_READ)
print(json.dumps({"pages": pages, "before": before, "after": after,
    "sha256": hashlib.sha256(content).hexdigest(),
    "mapped": hashlib.sha256(mapped).hexdigest()}))`;

/** Small objects named by number, with fs-verity but for `plain`. */
function fill() {
  const mountpoint = mountExt4();
  const store = join(mountpoint, 'store');
  mkdirSync(store);
  for (const { name, size, seed } of input.objects) {
    const path = join(store, name);
    const fd = openSync(path, 'w');
    writeSync(fd, bytesOf(size, seed));
    fsyncSync(fd);
    closeSync(fd);
  }
  const enabled = input.objects.filter(({ isEnabled }) => isEnabled);
  const loop = 'for file; do fsverity enable "$file" || exit 1; done';
  must('sh', '-c', loop, 'sh', ...enabled.map(({ name }) => join(store, name)));
  return store;
}

async function passthrough(store, ...options) {
  const mount = mountOurs(input.objectsImage, [store], '--log-level', 'trace', ...options);
  const found = {};
  for (const name of ['enabled', 'plain']) {
    const path = join(mount.mountpoint, name);
    // Whether it is the kernel that reads is seen without stopping anybody, who else would wait.
    readFileSync(path);
    await delay(500); // The log comes later.
    const isAsked = mount.events().some(({ msg }) => / READ /.test(msg));
    found[name] = isAsked
      ? 'read by the daemon'
      : JSON.parse(must('python3', '-I', '-c', readAlone, path, join(store, name), `${mount.pid}`));
    process.kill(mount.pid, 'SIGCONT');
  }
  const events = mount.events();
  const warnings = events.filter(({ level }) => level === 'warn' || level >= 40);
  const [{ data }] = events.filter(({ msg }) => msg === 'mounted');
  await mount.unmount();
  return { data, found, warnings: warnings.map(({ msg }) => msg) };
}

/** Milliseconds for opening, reading and closing all small objects, for each way of checking. */
async function cost(store) {
  const ways = {
    off: ['--verity', 'off'],
    kernel: ['--verify-engine', 'kernel'],
    user: ['--verify-engine', 'user'],
  };
  const names = input.objects.filter(({ name }) => /^\d+$/.test(name)).map(({ name }) => name);
  const mounts = Object.entries(ways).map(([way, options]) => [
    way,
    mountOurs(input.objectsImage, [store], '--data', 'daemon', ...options),
  ]);
  const chunk = Buffer.alloc(64 * 1024);
  const readAll = ({ mountpoint }) => {
    const begun = performance.now();
    for (const name of names) {
      const fd = openSync(join(mountpoint, name), 'r');
      while (readSync(fd, chunk) > 0);
      closeSync(fd);
    }
    return performance.now() - begun;
  };
  const rounds = { first: {}, again: {} };
  for (let round = 0; round < input.rounds; round++)
    for (const [way, mount] of mounts) {
      const forgotten = () => mount.events().filter(({ msg }) => msg.startsWith('forgot')).length;
      const before = forgotten();
      process.kill(mount.pid, 'SIGHUP');
      const end = performance.now() + 2_000;
      while (forgotten() === before && performance.now() < end) await delay(20);
      for (const state of ['first', 'again']) (rounds[state][way] ??= []).push(readAll(mount));
    }
  for (const [, mount] of mounts) await mount.unmount();
  return { files: names.length, rounds };
}

let store;
await runCases({
  attacks,
  ...(!input.hasOwnMount && { 'image digest': imageDigest }),
  objects: () => {
    store = fill();
    return outcome(() => openSync(join(store, 'enabled'), 'r+'));
  },
  '--data auto': () => passthrough(store),
  '--data passthrough': () => passthrough(store, '--data', 'passthrough'),
  ...(input.rounds > 0 && { cost: () => cost(store) }),
});
// Whatever still runs in this guest ends with it.
process.exit();
