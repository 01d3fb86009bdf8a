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

/** The native addon is missing or does not fit this platform. */
export class AddonError extends ComposefsError {
  constructor(message: string, options?: ErrorOptions) {
    super('CFS_ADDON', message, options);
  }
  static {
    this.prototype.name = 'AddonError';
  }
}
