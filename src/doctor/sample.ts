// A tiny image with one object, for mounts that are made to see whether they work.

import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { ImageTree, writeImage } from '../image-writer/index.ts';
import { objectPath } from '../objects/object-name.ts';
import { measureBytes } from '../verify/index.ts';

/** The file in the image whose content is the object. */
export const SAMPLE_FILE = 'file';
/** Longer than what an image holds itself. */
const CONTENT: Buffer = Buffer.alloc(8192, 'composefs-fuse doctor\n');
/** Below them, the first that can be written to; the first one is what the user chose. */
const PLACES: readonly string[] = [tmpdir(), '/var/tmp', '/dev/shm'];

export interface Sample {
  /** The temporary directory with all of it. */
  folder: string;
  image: string;
  objects: string;
  /** An empty directory. */
  mountpoint: string;
  /** SHA-256 of the object, in hex. */
  contentHash: string;
}

/** SHA-256 in hex, of what is read through a mount. */
export function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Undefined where no temporary directory can be made. `removeSample` takes it away. */
export function makeSample(): Sample | undefined {
  for (const place of PLACES) {
    let folder: string;
    try {
      folder = mkdtempSync(join(place, 'composefs-doctor-'));
    } catch {
      continue;
    }
    try {
      return fill(folder);
    } catch {
      removeSample(folder);
    }
  }
  return undefined;
}

export function removeSample(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
}

/** Whether the sample is inside this directory: an overlayfs takes no layer that is inside another. */
export function isInside({ folder }: Sample, path: string): boolean {
  const outer = realpathSync(path);
  return outer === '/' || realpathSync(folder).startsWith(`${outer}/`);
}

function fill(folder: string): Sample {
  // An object may be opened with the rights of another user than root.
  chmodSync(folder, 0o755);
  const { digest, hex } = measureBytes(CONTENT);
  const path = objectPath(hex);
  const objects = join(folder, 'objects');
  const object = join(objects, path);
  mkdirSync(dirname(object), { recursive: true });
  writeFileSync(object, CONTENT);
  const tree = new ImageTree({ mode: 0o40755 });
  tree.add(tree.root, SAMPLE_FILE, {
    mode: 0o100644,
    size: CONTENT.length,
    objectPath: path,
    digest,
  });
  const image = join(folder, 'image.cfs');
  writeFileSync(image, writeImage(tree));
  const mountpoint = join(folder, 'mnt');
  mkdirSync(mountpoint);
  return { folder, image, objects, mountpoint, contentHash: hashOf(CONTENT) };
}
