// Whether the objects of an image carry fs-verity, without which the kernel's mount can check none.

import {
  type Image,
  isExternal,
  ObjectRef,
  readObjectRef,
  walkEntries,
} from '../image-reader/index.ts';
import type { NativeAddon } from '../native.ts';
import { ObjectOpener } from '../objects/opener.ts';

/** So many files are looked at. A store is filled with fs-verity or without; one look each is 10 us. */
const MAX_FILES = 128;

/**
 * The path of an object that should have fs-verity and has none; undefined if all that were looked at
 * have it. Objects that are not there say nothing. `basedirs` are descriptors from openBasedir.
 */
export function objectWithoutVerity(
  native: NativeAddon,
  image: Image,
  basedirs: readonly number[],
): string | undefined {
  const opener = new ObjectOpener(native, basedirs);
  const ref = new ObjectRef();
  const digest = new Uint8Array(64);
  let files = 0;
  let found: string | undefined;
  walkEntries(image, (inode) => {
    if (!isExternal(inode) || readObjectRef(image, inode, ref) < 0) return false;
    if (ref.digestLength === 0) return false;
    const fd = opener.open(image.bytes, ref.pathStart, ref.pathLength);
    if (fd >= 0) {
      const measured = native.measureVerity(fd, digest);
      opener.close(fd);
      if (measured < 0) {
        const path = image.bytes.subarray(ref.pathStart, ref.pathStart + ref.pathLength);
        found = Buffer.from(path).toString();
        return true;
      }
    }
    return ++files === MAX_FILES;
  });
  return found;
}
