// Which extended attributes a mount shows, and under which names: what overlayfs shows when it is
// stacked on the image, or what it wants to see of the image. It consumes `trusted.overlay.*`, takes
// one level of escaping off `trusted.overlay.overlay.*`, and erofs has no names outside user, trusted,
// security and the ACLs.
//
//   stored                      composefs           layer       user-layer
//   trusted.overlay.X           -                   as stored   user.overlay.X (not listed)
//   trusted.overlay.overlay.X   trusted.overlay.X   as stored   -
//   other trusted.*             as stored           as stored   -
//   user.overlay.X              as stored           as stored   user.overlay.overlay.X
//
// An overlayfs that only adds a writable layer shall find nothing that is its own, and takes the escaping
// off what it passes on:
//
//   stored                      lower       user-lower
//   trusted.overlay.X           -           -
//   trusted.overlay.overlay.X   as stored   -
//   other trusted.*             as stored   -
//   user.overlay.X              as stored   user.overlay.overlay.X

import { Errno } from '../errors.ts';
import { findXattr, type Image, type Inode, XattrCursor } from '../image-reader/index.ts';
import type { Ownership } from './ownership.ts';
import { isBelowUserOverlay, type TreeView } from './tree-view.ts';
import { XattrIds } from './xattr-ids.ts';

/** Who asks. Asked only when an attribute's visibility depends on it. */
export interface XattrCaller {
  /** Has CAP_SYS_ADMIN in the initial user namespace, which `trusted.*` demands. */
  canSeeTrusted(): boolean;
}

const encoder = new TextEncoder();

/** erofs name_index of the attributes that are shown. */
const Index = { USER: 1, ACL_ACCESS: 2, ACL_DEFAULT: 3, TRUSTED: 4, SECURITY: 6 } as const;

const USER = encoder.encode('user.');
const USER_OVERLAY = encoder.encode('user.overlay.');
const TRUSTED = encoder.encode('trusted.');
const SECURITY = encoder.encode('security.');
const CAPABILITY = encoder.encode('capability');
const ACL_ACCESS = encoder.encode('system.posix_acl_access');
const ACL_DEFAULT = encoder.encode('system.posix_acl_default');
/** Follows `trusted.` in overlayfs's own names. */
const OVERLAY = encoder.encode('overlay.');
const NONE = new Uint8Array(0);

/** VFS limit of a name, XATTR_NAME_MAX. */
const MAX_NAME = 255;

function prefixOf(nameIndex: number): Uint8Array {
  switch (nameIndex) {
    case Index.USER:
      return USER;
    case Index.ACL_ACCESS:
      return ACL_ACCESS;
    case Index.ACL_DEFAULT:
      return ACL_DEFAULT;
    case Index.TRUSTED:
      return TRUSTED;
    case Index.SECURITY:
      return SECURITY;
    default:
      return NONE;
  }
}

function startsWith(bytes: Uint8Array, start: number, length: number, prefix: Uint8Array): boolean {
  if (length < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) {
    if (bytes[start + i] !== prefix[i]) return false;
  }
  return true;
}

export class XattrView {
  readonly #image: Image;
  readonly #showAcls: boolean;
  readonly #view: TreeView;
  readonly #isUser: boolean;
  /**
   * Whether trusted.* is listed: 1 or 0; -1 where that depends on the caller, and finding out reads
   * /proc. An overlayfs above decides by itself; in a user namespace it may not even read them.
   */
  readonly #seesTrusted: number;
  readonly #cursor = new XattrCursor();
  readonly #stored = new Uint8Array(MAX_NAME + OVERLAY.length);
  readonly #ids: XattrIds | undefined;
  #isMapped = false;

  /** Without `showAcls` (mount option noacl) ACL attributes do not exist. */
  constructor(
    image: Image,
    showAcls: boolean,
    view: TreeView = 'composefs',
    ownership?: Ownership,
  ) {
    this.#image = image;
    this.#showAcls = showAcls;
    this.#view = view;
    this.#isUser = isBelowUserOverlay(view);
    this.#ids = ownership === undefined ? undefined : new XattrIds(ownership);
    this.#seesTrusted = { composefs: -1, layer: 1, lower: 1, 'user-layer': 0, 'user-lower': 0 }[
      view
    ];
  }

  /** Where the value found by the last `find` lies. */
  get valueBytes(): Uint8Array {
    return this.#isMapped ? this.#ids!.bytes : this.#image.bytes;
  }

  /** Its start in `valueBytes`. */
  get valueStart(): number {
    return this.#isMapped ? 0 : this.#cursor.valueStart;
  }

  /**
   * Looks up the attribute that the caller calls `name[start, start + length)`. The value's length,
   * or -ENODATA, -EOPNOTSUPP (no such kind of name here), -EUCLEAN.
   */
  find(inode: Inode, name: Uint8Array, start: number, length: number): number {
    this.#isMapped = false;
    const found = this.#locate(inode, name, start, length);
    return found <= 0 || this.#ids === undefined ? found : this.#map(this.#ids, found);
  }

  #locate(inode: Inode, name: Uint8Array, start: number, length: number): number {
    if (length > MAX_NAME) return -Errno.ERANGE;
    if (startsWith(name, start, length, USER)) {
      return this.#findUser(inode, name, start + USER.length, length - USER.length);
    }
    if (startsWith(name, start, length, SECURITY)) {
      const skip = SECURITY.length;
      return this.#findStored(inode, Index.SECURITY, name, start + skip, length - skip);
    }
    if (startsWith(name, start, length, TRUSTED)) {
      return this.#findTrusted(inode, name, start + TRUSTED.length, length - TRUSTED.length);
    }
    if (this.#showAcls) {
      if (length === ACL_ACCESS.length && startsWith(name, start, length, ACL_ACCESS)) {
        return this.#findStored(inode, Index.ACL_ACCESS, name, start, 0);
      }
      if (length === ACL_DEFAULT.length && startsWith(name, start, length, ACL_DEFAULT)) {
        return this.#findStored(inode, Index.ACL_DEFAULT, name, start, 0);
      }
    }
    return -Errno.EOPNOTSUPP;
  }

  /**
   * Writes the NUL-terminated visible names to `out` from `at` on, as far as `capacity` bytes reach.
   * The length of the whole list, which may be larger than `capacity`; or -EUCLEAN.
   */
  list(inode: Inode, caller: XattrCaller, out: Uint8Array, at: number, capacity: number): number {
    const cursor = this.#cursor;
    const bytes = this.#image.bytes;
    const started = cursor.start(this.#image, inode);
    if (started < 0) return started;
    let seesTrusted = this.#seesTrusted;
    let total = 0;
    for (;;) {
      const more = cursor.next();
      if (more < 0) return more;
      if (more === 0) return total;
      let nameStart = cursor.nameStart;
      let nameLength = cursor.nameLength;
      const index = cursor.nameIndex;
      let prefix = prefixOf(index);
      if (prefix === NONE) continue;
      if (index === Index.USER) {
        if (this.#isUser && startsWith(bytes, nameStart, nameLength, OVERLAY)) {
          prefix = USER_OVERLAY;
        }
      } else if (index === Index.TRUSTED) {
        if (this.#view !== 'layer' && startsWith(bytes, nameStart, nameLength, OVERLAY)) {
          const skip = OVERLAY.length;
          if (!startsWith(bytes, nameStart + skip, nameLength - skip, OVERLAY)) continue;
          if (this.#view === 'composefs') {
            nameStart += skip;
            nameLength -= skip;
          }
        }
        if (seesTrusted < 0) seesTrusted = caller.canSeeTrusted() ? 1 : 0;
        if (seesTrusted === 0) continue;
      } else if (index === Index.ACL_ACCESS || index === Index.ACL_DEFAULT) {
        if (!this.#showAcls || nameLength > 0) continue;
      }
      const length = prefix.length + nameLength + 1;
      if (total + length <= capacity) {
        let to = at + total;
        for (let i = 0; i < prefix.length; i++) out[to++] = prefix[i]!;
        for (let i = 0; i < nameLength; i++) out[to++] = bytes[nameStart + i]!;
        out[to] = 0;
      }
      total += length;
    }
  }

  /** Gives the value that the cursor is at the ids of the mount, if it holds any. Its length. */
  #map(ids: XattrIds, length: number): number {
    const { nameIndex, nameStart, nameLength, valueStart } = this.#cursor;
    const bytes = this.#image.bytes;
    switch (nameIndex) {
      case Index.ACL_ACCESS:
      case Index.ACL_DEFAULT:
        this.#isMapped = true;
        return ids.mapAcl(bytes, valueStart, length);
      case Index.SECURITY:
        if (nameLength !== CAPABILITY.length) return length;
        if (!startsWith(bytes, nameStart, nameLength, CAPABILITY)) return length;
        this.#isMapped = true;
        return ids.mapCapability(bytes, valueStart, length);
      default:
        return length;
    }
  }

  /** An overlayfs with userxattr calls its own attributes `user.overlay.X`. */
  #findUser(inode: Inode, name: Uint8Array, start: number, length: number): number {
    if (!this.#isUser || !startsWith(name, start, length, OVERLAY)) {
      return this.#findStored(inode, Index.USER, name, start, length);
    }
    const skip = OVERLAY.length;
    if (startsWith(name, start + skip, length - skip, OVERLAY)) {
      return this.#findStored(inode, Index.USER, name, start + skip, length - skip);
    }
    if (this.#view === 'user-lower') return -Errno.ENODATA;
    return this.#findStored(inode, Index.TRUSTED, name, start, length);
  }

  /** `trusted.overlay.X` of the caller is stored with one more `overlay.`; others as they are. */
  #findTrusted(inode: Inode, name: Uint8Array, start: number, length: number): number {
    if (this.#isUser) return -Errno.ENODATA;
    if (this.#view === 'layer' || !startsWith(name, start, length, OVERLAY)) {
      return this.#findStored(inode, Index.TRUSTED, name, start, length);
    }
    const skip = OVERLAY.length;
    if (this.#view === 'lower') {
      return startsWith(name, start + skip, length - skip, OVERLAY)
        ? this.#findStored(inode, Index.TRUSTED, name, start, length)
        : -Errno.ENODATA;
    }
    const stored = this.#stored;
    for (let i = 0; i < OVERLAY.length; i++) stored[i] = OVERLAY[i]!;
    for (let i = 0; i < length; i++) stored[OVERLAY.length + i] = name[start + i]!;
    return this.#findStored(inode, Index.TRUSTED, stored, 0, OVERLAY.length + length);
  }

  #findStored(
    inode: Inode,
    nameIndex: number,
    suffix: Uint8Array,
    start: number,
    length: number,
  ): number {
    const found = findXattr(this.#image, inode, this.#cursor, nameIndex, suffix, start, length);
    if (found < 0) return found;
    return found === 1 ? this.#cursor.valueLength : -Errno.ENODATA;
  }
}
