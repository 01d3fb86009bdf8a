// The errno numbers and error classes of the project. Everything that can be requested through the
// kernel answers with a negative errno and throws nothing; everything a person or program calls at
// set-up time throws one of these classes, whose message is one complete line for a terminal.

/** Linux errno values (asm-generic/errno.h), the ones this project returns or interprets. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  ENOTBLK: 15,
  EBUSY: 16,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  EFBIG: 27,
  EROFS: 30,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ELOOP: 40,
  ENODATA: 61,
  EILSEQ: 84,
  EBADMSG: 74,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  ENOTCONN: 107,
  ECONNREFUSED: 111,
  ESTALE: 116,
  EUCLEAN: 117,
  EXDEV: 18,
  ECONNABORTED: 103,
  ECANCELED: 125,
} as const;

const errnoNames: ReadonlyMap<number, string> = new Map(
  Object.entries(Errno).map(([name, value]) => [value, name]),
);

/** `EUCLEAN` for 117 or -117; `errno 12345` for a number without a name here. */
export function errnoName(errno: number): string {
  const positive = Math.abs(errno);
  return errnoNames.get(positive) ?? `errno ${positive}`;
}

/** Base of all errors thrown by this project. `code` is stable and starts with `CFS_`. */
export class ComposefsError extends Error {
  readonly code: string;
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
  static {
    this.prototype.name = 'ComposefsError';
  }
}

/** The bytes are not a composefs image, or a damaged one. `offset` is where, in bytes, if known. */
export class ImageError extends ComposefsError {
  readonly offset: number | undefined;
  readonly nid: number | undefined;
  constructor(message: string, facts: { offset?: number; nid?: number } = {}) {
    super('CFS_BAD_IMAGE', message);
    this.offset = facts.offset;
    this.nid = facts.nid;
  }
  static {
    this.prototype.name = 'ImageError';
  }
}

/** A well-formed image that needs something this reader does not implement. */
export class UnsupportedFeatureError extends ComposefsError {
  readonly feature: string;
  readonly value: number;
  constructor(feature: string, value: number, message: string) {
    super('CFS_UNSUPPORTED', message);
    this.feature = feature;
    this.value = value;
  }
  static {
    this.prototype.name = 'UnsupportedFeatureError';
  }
}

/**
 * The mount could not be made or undone. `errno` is 0 where no system call was involved; `isInput`
 * means that the mountpoint as given cannot be used, rather than that mounting failed.
 */
export class MountError extends ComposefsError {
  readonly errno: number;
  readonly path: string;
  readonly isInput: boolean;
  constructor(
    message: string,
    facts: { errno?: number; path: string; cause?: unknown; isInput?: boolean },
  ) {
    super('CFS_MOUNT', message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.errno = facts.errno ?? 0;
    this.path = facts.path;
    this.isInput = facts.isInput ?? false;
  }
  static {
    this.prototype.name = 'MountError';
  }
}

/**
 * A text that is not a composefs dump. `line` counts from 1, for errors at the end of the text it is
 * the last line; `field` is the field's name, undefined where the line as a whole is wrong.
 */
export class DumpError extends ComposefsError {
  readonly line: number;
  readonly field: string | undefined;
  constructor(message: string, facts: { line: number; field?: string | undefined }) {
    super('CFS_BAD_DUMP', `line ${facts.line}: ${message}`);
    this.line = facts.line;
    this.field = facts.field;
  }
  static {
    this.prototype.name = 'DumpError';
  }
}

/** A tree that no image can hold. `path` is where in the tree, `errno` what the C tools would say. */
export class TreeError extends ComposefsError {
  readonly path: string;
  readonly errno: number;
  constructor(message: string, facts: { path: string; errno: number }) {
    super('CFS_BAD_TREE', message);
    this.path = facts.path;
    this.errno = facts.errno;
  }
  static {
    this.prototype.name = 'TreeError';
  }
}

/** A wrong command line or option value. */
export class UsageError extends ComposefsError {
  constructor(message: string) {
    super('CFS_USAGE', message);
  }
  static {
    this.prototype.name = 'UsageError';
  }
}

/** A file or directory that the command line names cannot be used. */
export class InputError extends ComposefsError {
  readonly path: string;
  constructor(message: string, path: string, options?: ErrorOptions) {
    super('CFS_INPUT', message, options);
    this.path = path;
  }
  static {
    this.prototype.name = 'InputError';
  }
}

/** A file's fs-verity digest is not the expected one. Both in lower-case hex. */
export class VerityError extends ComposefsError {
  readonly path: string;
  readonly expected: string;
  readonly actual: string;
  constructor(path: string, expected: string, actual: string) {
    super('CFS_VERITY', `${path}: the fs-verity digest is ${actual}, but ${expected} is expected`);
    this.path = path;
    this.expected = expected;
    this.actual = actual;
  }
  static {
    this.prototype.name = 'VerityError';
  }
}

/** An image is not the one that was asked for. Both digests as `sha256:HEX` or `sha512:HEX`. */
export class ImageDigestError extends ComposefsError {
  readonly path: string;
  readonly expected: string;
  readonly actual: string;
  constructor(path: string, expected: string, actual: string) {
    super(
      'CFS_IMAGE_DIGEST',
      `image ${path} has the fs-verity digest ${actual}, but ${expected} is asked for`,
    );
    this.path = path;
    this.expected = expected;
    this.actual = actual;
  }
  static {
    this.prototype.name = 'ImageDigestError';
  }
}

/** A file was written, cut or extended while it was read, so that no digest describes it. */
export class FileChangedError extends ComposefsError {
  readonly path: string;
  constructor(path: string) {
    super('CFS_FILE_CHANGED', `${path}: the file changed while it was read`);
    this.path = path;
  }
  static {
    this.prototype.name = 'FileChangedError';
  }
}

/** A source directory, or something in it, cannot be read. */
export class SourceError extends ComposefsError {
  readonly path: string;
  constructor(message: string, path: string) {
    super('CFS_SOURCE', message);
    this.path = path;
  }
  static {
    this.prototype.name = 'SourceError';
  }
}

/** A file cannot be put into an object store; `path` is the file or the object. */
export class StoreError extends ComposefsError {
  readonly path: string;
  constructor(message: string, path: string) {
    super('CFS_STORE', message);
    this.path = path;
  }
  static {
    this.prototype.name = 'StoreError';
  }
}

/** The native addon is missing or does not fit this platform. */
export class AddonError extends ComposefsError {
  constructor(message: string, options?: ErrorOptions) {
    super('CFS_ADDON', message, options);
  }
  static {
    this.prototype.name = 'AddonError';
  }
}
