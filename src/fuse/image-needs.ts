// What an image demands of its mount.

import { InputError } from '../errors.ts';
import { hasAcl, type Image, isExternal, walkEntries } from '../image-reader/index.ts';

/** composefs_version of mkcomposefs, whose HAS_ACL flag can be relied on, is below this. */
const FIRST_VERSION_WITHOUT_ACL_FLAG = 2;

/** Whether the kernel must be asked to enforce ACLs: they cost a request per walk from the root. */
export function needsAclEnforcement(image: Image): boolean {
  if (image.hasAclFlag) return true;
  return image.composefsVersion >= FIRST_VERSION_WITHOUT_ACL_FLAG && hasAcl(image);
}

/** Throws InputError if objects are needed: none are to be had without a base directory. */
export function requireNoObjects(image: Image, path: string): void {
  if (!walkEntries(image, isExternal)) return;
  throw new InputError(
    `image ${path} keeps its files' contents in objects: name their directory with --basedir`,
    path,
  );
}
