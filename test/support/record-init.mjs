// The first request of this kernel to a FUSE daemon, byte for byte: what test/fixtures/init-requests.json
// holds of several. `node test/support/record-init.mjs`, as root, prints it; the VM tier records it in its
// guests. Needs a build. The mount ends unanswered: nobody else may look at it.

import { mkdtempSync, readSync, rmdirSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadNative } from '../../dist/native.js';

const MNT_DETACH = 2;
/** As small as the kernel takes it. */
const BUFFER_SIZE = 8192;

/** `{ release, hex }` of the kernel that runs. */
export function recordInit() {
  const native = loadNative();
  const mountpoint = mkdtempSync(join(tmpdir(), 'record-init-'));
  const device = native.openDevice();
  const options = 'rootmode=40000,user_id=0,group_id=0,default_permissions';
  const status = native.mount('record-init', mountpoint, 'fuse', 1, options, device);
  if (status !== 0) throw new Error(`mount(2): ${status}`);
  try {
    // INIT is queued when mount(2) returns.
    const buffer = new Uint8Array(BUFFER_SIZE);
    const length = readSync(device, buffer);
    return { release: release(), hex: Buffer.from(buffer.subarray(0, length)).toString('hex') };
  } finally {
    native.unmount(mountpoint, MNT_DETACH);
    native.closeDescriptor(device);
    rmdirSync(mountpoint);
  }
}

if (process.argv[1] === import.meta.filename) console.log(JSON.stringify(recordInit()));
