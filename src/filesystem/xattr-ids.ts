// Ids inside attribute values: those of POSIX ACLs (linux/posix_acl_xattr.h) and the root of a file
// capability (struct vfs_ns_cap_data of linux/capability.h).

import { NO_ID, type Ownership } from './ownership.ts';

/** VFS limit of a value, XATTR_SIZE_MAX. */
const MAX_VALUE = 65_536;

const ACL_VERSION = 2;
const ACL_HEADER = 4;
/** tag u16, permissions u16, id u32. Only these two tags have an id. */
const ACL_ENTRY = 8;
const ACL_ID = 4;
const Tag = { USER: 2, GROUP: 8 } as const;

const REVISION_MASK = 0xff00_0000;
const REVISION_2 = 0x0200_0000;
const REVISION_3 = 0x0300_0000;
/** Revision 2 belongs to root; revision 3 says whose root it belongs to. */
const SIZE_2 = 20;
const SIZE_3 = 24;
const ROOT_ID = 20;

export class XattrIds {
  /** Where the last mapped value lies, from 0 on. */
  readonly bytes: Uint8Array = new Uint8Array(MAX_VALUE + SIZE_3);
  readonly #view = new DataView(this.bytes.buffer);
  readonly #ownership: Ownership;

  constructor(ownership: Ownership) {
    this.#ownership = ownership;
  }

  /**
   * Puts an ACL with the ids of the mount into `bytes`; its length. An entry whose id does not exist in
   * the mount's user namespace is left out: nobody there can be meant. What is not an ACL stays as it is.
   */
  mapAcl(from: Uint8Array, start: number, length: number): number {
    const size = this.#copy(from, start, length);
    const view = this.#view;
    const { uids, gids } = this.#ownership;
    if (size < ACL_HEADER || view.getUint32(0, true) !== ACL_VERSION) return size;
    if ((size - ACL_HEADER) % ACL_ENTRY !== 0) return size;
    let to = ACL_HEADER;
    for (let at = ACL_HEADER; at < size; at += ACL_ENTRY) {
      const tag = view.getUint16(at, true);
      let id = view.getUint32(at + ACL_ID, true);
      if (tag === Tag.USER || tag === Tag.GROUP) {
        const map = tag === Tag.USER ? uids : gids;
        id = map.toMount(id);
        if (!map.exists(id)) continue;
      }
      view.setUint32(to, view.getUint32(at, true), true);
      view.setUint32(to + ACL_ID, id, true);
      to += ACL_ENTRY;
    }
    return to;
  }

  /**
   * The same for a file capability, which must never be good for more than the root of the image was:
   * where that one is somebody else in the mount, revision 2 becomes revision 3, which says so.
   */
  mapCapability(from: Uint8Array, start: number, length: number): number {
    const size = this.#copy(from, start, length);
    const view = this.#view;
    if (size < SIZE_2) return size;
    const magic = view.getUint32(0, true);
    const revision = (magic & REVISION_MASK) >>> 0;
    if (revision === REVISION_3 && size === SIZE_3) {
      view.setUint32(ROOT_ID, this.#rootOf(view.getUint32(ROOT_ID, true)), true);
    } else if (revision === REVISION_2 && size === SIZE_2) {
      const root = this.#rootOf(0);
      if (root === 0) return size;
      view.setUint32(0, (magic & ~REVISION_MASK) | REVISION_3, true);
      view.setUint32(ROOT_ID, root, true);
      return SIZE_3;
    }
    return size;
  }

  #rootOf(id: number): number {
    return id === NO_ID ? id : this.#ownership.uids.toMount(id);
  }

  #copy(from: Uint8Array, start: number, length: number): number {
    const size = Math.min(length, MAX_VALUE);
    for (let i = 0; i < size; i++) this.bytes[i] = from[start + i]!;
    return size;
  }
}
