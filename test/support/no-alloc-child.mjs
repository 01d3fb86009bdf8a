// Pushes canned requests through the built dispatcher and prints, as JSON, how much heap each kind
// of request left behind and whether the garbage collector had to run meanwhile. Run by
// no-alloc.test.ts as `node --expose-gc`: IMAGE BASEDIR REQUESTS, requests as
// JSON, and the rules of ownership as JSON if there are any.

import { readFileSync } from 'node:fs';
import { PerformanceObserver } from 'node:perf_hooks';
import { StatisticsSource } from '../../dist/filesystem/statistics.js';
import { Dispatcher } from '../../dist/fuse/dispatch.js';
import { Reply } from '../../dist/fuse/reply.js';
import { Request } from '../../dist/fuse/request.js';
import { prepareFilesystem } from '../../dist/fuse/serving.js';
import { Slot } from '../../dist/fuse/slot.js';
import { Image } from '../../dist/image-reader/index.js';
import { loadNative } from '../../dist/native.js';
import { VerificationState } from '../../dist/objects/verification.js';

const WARM_UP = 20_000;
const MEASURED = 100_000;
const WINDOWS = 3;

const [imagePath, basedir, requestsPath, ownership] = process.argv.slice(2);
const native = loadNative();
const file = readFileSync(imagePath);
const shared = new SharedArrayBuffer(file.length);
const bytes = new Uint8Array(shared);
bytes.set(file);
const image = Image.open(bytes);
const filesystem = prepareFilesystem(
  native,
  image,
  {
    basedirs: [native.openBasedir(basedir)],
    acl: true,
    view: 'composefs',
    ownership: ownership === undefined ? undefined : JSON.parse(ownership),
    passthrough: 'never',
    fileTable: native.createFileTable(256, 16),
    verification: {
      policy: 'if-present',
      engine: 'auto',
      at: 'open',
      state: new VerificationState().shared,
    },
  },
  (problem) => {
    throw new Error(`unexpected problem: ${problem.detail}`);
  },
);
const requestBytes = new Uint8Array(128 * 1024);
const reply = new Uint8Array(16 + 1024 * 1024);
// A session on an unconnected device serves for its readObject.
const session = new native.Session(native.openDevice(), requestBytes, reply, native.createWake());
const slot = new Slot(
  new Request(requestBytes),
  new Reply(reply),
  filesystem,
  new StatisticsSource('/', 0, 0),
  { pid: 0, canSeeTrusted: () => true },
  (fd, offset, length, at) => session.readObject(fd, offset, length, at),
);
const dispatcher = new Dispatcher((error) => {
  throw error;
});

const replyView = new DataView(reply.buffer);
const requestView = new DataView(requestBytes.buffer);
/** Sends `steps` one after the other; a RELEASE gets the handle of the OPEN before it. */
function serve(steps, count) {
  let handle = 0;
  for (let i = 0; i < count; i++) {
    for (let step = 0; step < steps.length; step++) {
      const bytes = steps[step];
      for (let b = 0; b < bytes.length; b++) requestBytes[b] = bytes[b];
      const opcode = bytes[4];
      if (opcode === 15 || opcode === 18) {
        requestView.setUint32(40, handle, true);
      }
      const length = dispatcher.dispatch(slot, bytes.length);
      if (length < 16 || replyView.getInt32(4, true) !== 0) {
        throw new Error(`opcode ${opcode} failed: ${replyView.getInt32(4, true)}`);
      }
      if (opcode === 14) handle = replyView.getUint32(16, true);
    }
  }
}

let collections = 0;
new PerformanceObserver((list) => (collections += list.getEntries().length)).observe({
  entryTypes: ['gc'],
});
const settle = () => new Promise((resolve) => setTimeout(resolve, 20));

const results = {};
for (const [name, encoded] of Object.entries(JSON.parse(readFileSync(requestsPath, 'utf8')))) {
  const steps = encoded.map((hex) => Uint8Array.from(Buffer.from(hex, 'hex')));
  serve(steps, WARM_UP);
  const windows = [];
  for (let window = 0; window < WINDOWS; window++) {
    globalThis.gc();
    await settle();
    collections = 0;
    const before = process.memoryUsage().heapUsed;
    serve(steps, MEASURED);
    const grownBytes = process.memoryUsage().heapUsed - before;
    await settle();
    windows.push({ grownBytes, collections });
  }
  // The compiler allocates while it still optimises; what a request allocates is in every window.
  windows.sort((a, b) => a.grownBytes - b.grownBytes);
  results[name] = { requests: MEASURED * steps.length, ...windows[0] };
}
session.close();
process.stdout.write(JSON.stringify(results));
