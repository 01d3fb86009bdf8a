// Where the content of an external file is: the object's path below the object directories and the
// fs-verity digest of the object, both from overlay xattrs. The path is attacker controlled; what is
// returned here has only ordinary components, so it cannot lead upwards or be absolute.

import { Errno } from '../errors.ts';
import { isExternal } from './data.ts';
import { DigestAlgorithm, METACOPY, SHA256_SIZE, SHA512_SIZE, XattrIndex } from './format.ts';
import type { Image } from './image.ts';
import type { Inode } from './inode.ts';
import { isEqual, XattrCursor } from './xattr.ts';

/** Stored names, without `trusted.`. */
const METACOPY_NAME = new TextEncoder().encode('overlay.metacopy');
const REDIRECT_NAME = new TextEncoder().encode('overlay.redirect');
/** Longest path that fits into PATH_MAX with its terminator. */
const PATH_LENGTH_MAX = 4095;
const SLASH = 0x2f;
const DOT = 0x2e;

/** A reusable record; the offsets count bytes of the image. Valid after readObjectRef() gave 0. */
export class ObjectRef {
  /** The path relative to an object directory, without a leading slash or a terminator. */
  pathStart = 0;
  pathLength = 0;
  /** One of DigestAlgorithm. */
  digestAlgorithm = 0;
  digestStart = 0;
  digestLength = 0;
}

// One per thread is enough: readObjectRef() never runs inside itself.
const cursor = new XattrCursor();

/**
 * Reads the reference of an external file. Returns 0, or
 * - -EUCLEAN for a missing metacopy, or damaged xattrs;
 * - -EBADMSG for a malformed metacopy;
 * - -EIO for a missing redirect or a mere name, as the kernel does;
 * - -EINVAL for a redirect that is empty, relative, or has an empty component, as the kernel does, or
 *   that has a `.` or `..` component or a NUL; and for an inode that is not external;
 * - -ENAMETOOLONG for a path of 4096 bytes and more.
 */
export function readObjectRef(image: Image, inode: Inode, out: ObjectRef): number {
  if (!isExternal(inode)) return -Errno.EINVAL;
  let result = cursor.start(image, inode);
  if (result < 0) return result;
  let metacopyStart = -1;
  let metacopyLength = 0;
  let redirectStart = -1;
  let redirectLength = 0;
  while ((result = cursor.next()) > 0) {
    if (cursor.nameIndex !== XattrIndex.TRUSTED) continue;
    if (metacopyStart < 0 && isNamed(image, METACOPY_NAME)) {
      metacopyStart = cursor.valueStart;
      metacopyLength = cursor.valueLength;
    } else if (redirectStart < 0 && isNamed(image, REDIRECT_NAME)) {
      redirectStart = cursor.valueStart;
      redirectLength = cursor.valueLength;
    }
  }
  if (result < 0) return result;
  // The kernel would show a file of zero bytes. No writer makes one: the attribute was destroyed.
  if (metacopyStart < 0) return -Errno.EUCLEAN;
  result = readMetacopy(image, metacopyStart, metacopyLength, out);
  if (result < 0) return result;
  if (redirectStart < 0) return -Errno.EIO;
  return readRedirect(image.bytes, redirectStart, redirectLength, out);
}

function isNamed(image: Image, name: Uint8Array): boolean {
  return (
    cursor.nameLength === name.length &&
    isEqual(image.bytes, cursor.nameStart, name, 0, name.length)
  );
}

/** The kernel accepts more than this; what it accepts beyond would switch verification off. */
function readMetacopy(image: Image, start: number, length: number, out: ObjectRef): number {
  out.digestAlgorithm = DigestAlgorithm.NONE;
  out.digestStart = start;
  out.digestLength = 0;
  if (length === 0) return 0;
  if (length < METACOPY.DIGEST) return -Errno.EBADMSG;
  const view = image.view;
  if (
    view.getUint8(start + METACOPY.VERSION) !== 0 ||
    view.getUint8(start + METACOPY.LENGTH) !== length ||
    view.getUint8(start + METACOPY.FLAGS) !== 0
  ) {
    return -Errno.EBADMSG;
  }
  const algorithm = view.getUint8(start + METACOPY.DIGEST_ALGO);
  const digestLength = length - METACOPY.DIGEST;
  if (digestLength !== digestSize(algorithm)) return -Errno.EBADMSG;
  out.digestAlgorithm = algorithm;
  out.digestStart = start + METACOPY.DIGEST;
  out.digestLength = digestLength;
  return 0;
}

function digestSize(algorithm: number): number {
  switch (algorithm) {
    case DigestAlgorithm.NONE:
      return 0;
    case DigestAlgorithm.SHA256:
      return SHA256_SIZE;
    case DigestAlgorithm.SHA512:
      return SHA512_SIZE;
    default:
      return -1;
  }
}

function readRedirect(bytes: Uint8Array, start: number, length: number, out: ObjectRef): number {
  const end = start + length;
  if (length === 0) return -Errno.EINVAL;
  if (bytes[start] !== SLASH) {
    // Relative to the file's own directory in the kernel, which then finds no content there.
    for (let i = start; i < end; i++) if (bytes[i] === SLASH) return -Errno.EINVAL;
    return -Errno.EIO;
  }
  let componentStart = start + 1;
  for (let i = start + 1; i <= end; i++) {
    const byte = i === end ? SLASH : bytes[i]!;
    if (byte === 0) return -Errno.EINVAL;
    if (byte !== SLASH) continue;
    const componentLength = i - componentStart;
    if (componentLength === 0) return -Errno.EINVAL;
    if (bytes[componentStart] === DOT) {
      if (componentLength === 1) return -Errno.EINVAL;
      if (componentLength === 2 && bytes[componentStart + 1] === DOT) return -Errno.EINVAL;
    }
    componentStart = i + 1;
  }
  out.pathStart = start + 1;
  out.pathLength = length - 1;
  return length - 1 > PATH_LENGTH_MAX ? -Errno.ENAMETOOLONG : 0;
}
