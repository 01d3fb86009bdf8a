// What a mount is made from: the image, and the directories of its objects. Opened before there is a
// mount, for a path could lead into it afterwards.

import { dirname } from 'node:path';
import { InputError } from '../errors.ts';
import { ImageFile } from '../filesystem/image-file.ts';
import { hasAcl, type Image, isExternal, walkEntries } from '../image-reader/index.ts';
import type { NativeAddon } from '../native.ts';
import { openDirectory } from '../objects/basedirs.ts';
import { openWritableLayer, type WritableLayer } from './writable-layer.ts';

/** Paths are absolute. */
export interface SourceOptions {
  image: string;
  /** Directories of objects, searched in order. */
  basedirs: readonly string[];
  /** The fs-verity digest that the image must have, in lower-case hex of 64 or 128 digits. */
  digest: string | undefined;
  /** What takes what is written; undefined: nothing can be written. */
  writable: WritableLayer | undefined;
}

/** composefs_version of mkcomposefs, whose HAS_ACL flag can be relied on, is below this. */
const FIRST_VERSION_WITHOUT_ACL_FLAG = 2;

export class MountSources {
  readonly #native: NativeAddon;
  readonly #options: SourceOptions;
  readonly #descriptors: number[] = [];

  constructor(native: NativeAddon, options: SourceOptions) {
    this.#native = native;
    this.#options = options;
  }

  /** A descriptor for each base directory. Throws InputError. */
  openBasedirs(): number[] {
    return this.#options.basedirs.map((path) => this.#openDirectory(path));
  }

  /** Descriptors of upperdir and workdir, if there are to be any. Throws InputError. */
  openWritable(isReadOnly: boolean): number[] {
    const { writable } = this.#options;
    if (writable === undefined) return [];
    return openWritableLayer(writable, isReadOnly, (path, what) => this.#openDirectory(path, what));
  }

  /**
   * A path on the filesystem that statfs reports, through a descriptor from before the mount: an
   * ordinary path could lead into the mount itself, and a thread that asks its own mount waits for
   * ever.
   */
  statisticsPath(basedirs: readonly number[]): string {
    const fd = basedirs[0] ?? this.#openDirectory(dirname(this.#options.image));
    return `/proc/self/fd/${fd}`;
  }

  /** Opens the image file, to be loaded. Throws ImageError. */
  openImage(): ImageFile {
    // Thousands of page faults less: reading 31 MB takes 12 ms instead of 27. It may be refused.
    return new ImageFile(this.#options.image, (memory) => this.#native.useHugePages(memory));
  }

  /**
   * Reads and checks the image. Rejects with ImageError, UnsupportedFeatureError, ImageDigestError, or
   * InputError if it needs objects and there is no base directory.
   */
  async load(file: ImageFile): Promise<Image> {
    const { basedirs, image: path } = this.#options;
    const image = await this.#read(file);
    if (basedirs.length === 0 && walkEntries(image, isExternal)) {
      throw new InputError(
        `image ${path} keeps its files' contents in objects: name their directory with --basedir or -o basedir=…`,
        path,
      );
    }
    return image;
  }

  async #read(file: ImageFile): Promise<Image> {
    const { digest, image: path } = this.#options;
    if (digest === undefined) return file.load();
    // Loaded only where it is needed: Node's crypto alone takes 4 ms.
    const { imageDigestCheck } = await import('./image-digest.ts');
    return file.load((fd) => imageDigestCheck(this.#native, path, fd, digest));
  }

  close(): void {
    for (const fd of this.#descriptors.splice(0)) this.#native.closeDescriptor(fd);
  }

  #openDirectory(path: string, what = 'base directory'): number {
    const fd = openDirectory(this.#native, path, what);
    this.#descriptors.push(fd);
    return fd;
  }
}

/** Whether the kernel must be asked to enforce ACLs: they cost a request per walk from the root. */
export function needsAclEnforcement(image: Image): boolean {
  if (image.hasAclFlag) return true;
  return image.composefsVersion >= FIRST_VERSION_WITHOUT_ACL_FLAG && hasAcl(image);
}
