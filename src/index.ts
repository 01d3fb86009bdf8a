// The library: open an image and walk it, or mount it. `import { openImage, mount } from
// 'composefs-fuse'`. Reading images needs no native addon; mounting does.

export {
  AddonError,
  ComposefsError,
  ImageError,
  InputError,
  MountError,
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
export { mount, type ComposefsMount, type MountEvents, type MountSettings } from './mount.ts';
