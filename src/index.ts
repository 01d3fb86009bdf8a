// The library: open an image and walk it, mount it, write one, measure files, keep objects. Only mounts
// and object stores need the native addon.

export {
  AddonError,
  DumpError,
  ComposefsError,
  FileChangedError,
  ImageDigestError,
  ImageError,
  InputError,
  MountError,
  SourceError,
  StoreError,
  TreeError,
  UnsupportedFeatureError,
  UsageError,
} from './errors.ts';
export { openImageFile as openImage } from './open-image.ts';
export {
  ComposefsImage,
  type EntryKind,
  ImageEntry,
  type ImageHeader,
  type ObjectReference,
} from './image-reader/index.ts';
export type { IdRange } from './filesystem/ownership.ts';
export type { DataMode } from './fuse/data-mode.ts';
export type { TransportName } from './fuse/transport-names.ts';
export { mount, type ComposefsMount, type MountEvents, type MountSettings } from './mount.ts';
export { type AddFilesOptions, ObjectStore, type ObjectVerdict } from './objects/store.ts';
export type { ObjectDigest } from './objects/object-name.ts';
export type { SourceFile, StoredFile, StoredObject } from './objects/store-batch.ts';
export type { VerifyAt, VerifyEngine, VerityPolicy } from './objects/verification.ts';
export {
  dumpImage,
  dumpImageChunks,
  DumpReader,
  readDump,
  readDumpStream,
  writeDump,
  writeDumpChunks,
} from './dump/index.ts';
export {
  type ImageFacts,
  ImagePlan,
  ImageTree,
  type NodeAttributes,
  type NodeId,
  planImage,
  type VersionRange,
  writeImage,
} from './image-writer/index.ts';
export {
  type DigestAlgorithm,
  type FileMeasurement,
  type FilePath,
  measureBytes,
  measureFile,
  measureFiles,
  type Measurement,
  measureStream,
  MerkleTree,
} from './verify/index.ts';
