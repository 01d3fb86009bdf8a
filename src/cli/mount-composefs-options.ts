// The command line of mount.composefs: what mount(8) passes to a helper, the options of the reference's
// mount.composefs, and those of composefs-fuse.

import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { UsageError } from '../errors.ts';
import type { DataMode } from '../fuse/data-mode.ts';
import {
  emptyMountOptions,
  type MountOptions,
  oneOf,
  parseMountOptions,
  requireValue,
  splitEscaped,
  unescape,
  UnknownOptionError,
} from './mount-options.ts';
import { firstSentence } from './parse-error.ts';

/** Ways to mount, best first. */
export const BACKENDS = ['kernel', 'overlay', 'passthrough', 'fuse'] as const;
export type Backend = (typeof BACKENDS)[number];

/** Everything the command line says. Paths are absolute, but for those in `words`. */
export interface MountRequest {
  image: string;
  mountpoint: string;
  basedirs: string[];
  mount: MountOptions;
  /** Rungs of the ladder that may be taken, best first. */
  backends: readonly Backend[];
  upper: readonly [string, string] | undefined;
  /** File of a user namespace. */
  idmap: string | undefined;
  /** Options that composefs-fuse understands, as they were written: what is left for it to do. */
  words: string[];
  /** mount(8)'s -f: check everything, mount nothing. */
  fake: boolean;
  verbose: boolean;
  /** File of the mount namespace to work in. */
  namespace: string | undefined;
}

export type MountCommand =
  { kind: 'help' } | { kind: 'version' } | { kind: 'mount'; request: MountRequest };

export const HELP: string = `Usage: mount.composefs [-fnsv] [-N NAMESPACE] [-t TYPE] [-o OPTION[,OPTION…]]… IMAGE DIR
       mount -t composefs [-o OPTION[,OPTION…]] IMAGE DIR

Mounts a composefs image in the best way that is possible here and gives all that is asked for: by the
kernel's own composefs, by overlayfs over FUSE, by FUSE with passthrough, by FUSE alone.

  -o OPTION[,OPTION…]   see below; may be repeated; a backslash quotes a comma
  -v, --verbose         say which way was taken, and of each better one why not
  -f, --fake            check everything, mount nothing
  -s                    ignore unknown options
  -n                    without effect
  -N NAMESPACE          mount in this mount namespace (a file)
  -t TYPE               without effect
  -h, --help            show this text
  -V, --version         show the version

Options:
  basedir=DIR[:DIR…]    directory of objects; several are searched in order (repeatable)
  verity                every object must have its digest; one without cannot be opened
  tryverity             verify where it can be done
  noverity              verify nothing
  digest=HEX            the image must have this fs-verity digest (SHA-256 or SHA-512); implies verity
  upperdir=DIR,workdir=DIR
                        a writable layer on top
  ro, rw                with a writable layer: read-only or not
  idmap=FILE            owners as the user namespace FILE maps them (kernel only)
  backend=auto|kernel|overlay|passthrough|fuse
                        auto (default) takes the first that can be had; another name that one or none
Those of composefs-fuse and the flags of mount(8) (nosuid, nodev, noexec, …) are understood too.

Which way was taken is said on a terminal and with -v. Exit codes are those of mount(8): 0 mounted;
1 usage; 2 system error (addon not built, namespace not to be entered); 4 internal error; 32 not mounted.
`;

/** Which rungs composefs-fuse's `data` leaves. */
const BACKENDS_OF_DATA: Record<DataMode, readonly Backend[]> = {
  auto: ['passthrough', 'fuse'],
  passthrough: ['passthrough'],
  daemon: ['fuse'],
  overlay: ['overlay'],
};

/** What is decided here for each rung, and not passed on as it is. */
const DECIDED_HERE: ReadonlySet<string> = new Set([
  'verity',
  'tryverity',
  'noverity',
  'verity_check',
  'data',
  'nonempty',
]);

/** Reads the arguments behind the program name. Throws UsageError. */
export function parseMountCommand(args: readonly string[]): MountCommand {
  const { values, positionals } = parse(args);
  if (values.help === true) return { kind: 'help' };
  if (values.version === true) return { kind: 'version' };
  const [image, mountpoint, third] = positionals;
  if (image === undefined || mountpoint === undefined || positionals.includes('')) {
    throw new UsageError('IMAGE and DIR are expected; see mount.composefs --help');
  }
  if (third !== undefined) {
    throw new UsageError(`superfluous argument ${JSON.stringify(third)}; expected IMAGE DIR`);
  }
  const options = new OptionReader(values.sloppy === true);
  for (const list of values.options ?? []) options.read(list);
  return {
    kind: 'mount',
    request: {
      image: resolve(image),
      mountpoint: resolve(mountpoint),
      ...options.result(),
      fake: values.fake === true,
      verbose: values.verbose === true,
      namespace: values.namespace,
    },
  };
}

/** The same arguments without -N, for the process that is in that namespace. */
export function withoutNamespace(args: readonly string[]): string[] {
  return parse(args).tokens.flatMap((token) => {
    if (token.kind === 'positional') return [token.value];
    if (token.kind !== 'option' || token.name === 'namespace') return [];
    return token.value === undefined ? [`--${token.name}`] : [`--${token.name}=${token.value}`];
  });
}

/** Collects what stands behind all -o of a command line. */
class OptionReader {
  readonly #isSloppy: boolean;
  readonly #mount = emptyMountOptions();
  readonly #own: { backend?: string; idmap?: string; upperdir?: string; workdir?: string } = {};
  readonly #words: string[] = [];
  #isReadOnly = false;

  constructor(isSloppy: boolean) {
    this.#isSloppy = isSloppy;
    // As mount(8): what the user does not say is not forbidden.
    this.#mount.flags.clear();
  }

  read(list: string): void {
    for (const word of splitEscaped(list, ',')) {
      const equals = word.indexOf('=');
      const name = equals < 0 ? word : word.slice(0, equals);
      const value = equals < 0 ? undefined : unescape(word.slice(equals + 1));
      switch (name) {
        case '':
          break;
        case 'backend':
        case 'idmap':
        case 'upperdir':
        case 'workdir':
          this.#own[name] = requireValue(name, value);
          break;
        case 'ro':
        case 'rw':
          this.#isReadOnly = name === 'ro';
          break;
        case 'source':
          throw new UsageError('the image is given as an argument, not as mount option source');
        default:
          this.#readShared(word, name);
      }
    }
  }

  #readShared(word: string, name: string): void {
    try {
      parseMountOptions(word, this.#mount);
    } catch (error) {
      if (!(error instanceof UnknownOptionError)) throw error;
      if (this.#isSloppy) return;
      throw new UnknownOptionError(name, 'mount.composefs');
    }
    if (!DECIDED_HERE.has(name)) this.#words.push(word);
  }

  result(): Pick<MountRequest, 'basedirs' | 'mount' | 'backends' | 'upper' | 'idmap' | 'words'> {
    const { idmap, upperdir, workdir } = this.#own;
    if ((upperdir === undefined) !== (workdir === undefined)) {
      throw new UsageError('mount options upperdir and workdir need each other; give both or none');
    }
    const mount = this.#mount;
    if (mount.digest !== undefined) {
      if (mount.verity === 'off') {
        throw new UsageError('mount option digest demands verity, but noverity is given');
      }
      mount.verity = 'require';
    }
    if (this.#isReadOnly) mount.flags.add('ro');
    const isWritable = upperdir !== undefined && workdir !== undefined;
    return {
      basedirs: mount.basedirs.map((path) => resolve(path)),
      mount,
      backends: this.#backends(),
      upper: isWritable ? [resolve(upperdir), resolve(workdir)] : undefined,
      idmap: idmap === undefined ? undefined : resolve(idmap),
      words: [...this.#words, ...(this.#isReadOnly ? ['ro'] : [])],
    };
  }

  #backends(): readonly Backend[] {
    const { data } = this.#mount;
    const backend = oneOf('mount option backend', this.#own.backend ?? 'auto', [
      'auto',
      ...BACKENDS,
    ]);
    const left = data === undefined ? BACKENDS : BACKENDS_OF_DATA[data];
    if (backend === 'auto') return left;
    if (left.includes(backend)) return [backend];
    throw new UsageError(
      `mount option backend=${backend} contradicts data=${data}, which is for ${left.join(', ')}`,
    );
  }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      strict: true,
      tokens: true,
      options: {
        options: { type: 'string', short: 'o', multiple: true },
        fake: { type: 'boolean', short: 'f' },
        verbose: { type: 'boolean', short: 'v' },
        sloppy: { type: 'boolean', short: 's' },
        'no-mtab': { type: 'boolean', short: 'n' },
        namespace: { type: 'string', short: 'N' },
        types: { type: 'string', short: 't' },
        help: { type: 'boolean', short: 'h' },
        version: { type: 'boolean', short: 'V' },
      },
    });
  } catch (error) {
    throw new UsageError(`${firstSentence(error)}; see mount.composefs --help`);
  }
}
