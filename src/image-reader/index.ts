// Public interface of the image reader: the package's './image-reader' entry. Needs neither the
// addon nor node:fs. tree.ts is the comfortable half; the rest is the half that allocates and throws
// nothing, for code that answers requests.

export { ImageError, UnsupportedFeatureError } from '../errors.ts';
export { hasAcl } from './acl.ts';
export { Extent, isExternal, locateData } from './data.ts';
export { DirectoryCursor, findChild } from './directory.ts';
export { type EntryKind, ImageEntry, type ObjectReference } from './entry.ts';
export { DigestAlgorithm, FileType, Layout, XATTR_PREFIXES, XattrIndex } from './format.ts';
export { hasComposefsMagic, Image } from './image.ts';
export { fileTypeOfMode, Inode, readInode } from './inode.ts';
export { ObjectRef, readObjectRef } from './object-ref.ts';
export { ComposefsImage, type ImageHeader, openImage } from './tree.ts';
export { findXattr, XattrCursor } from './xattr.ts';
export { isDots, type VisitEntry, walkEntries } from './walk.ts';
