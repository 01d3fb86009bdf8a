// What `diff` compares: images, dump texts and directories. All become images, so that what is
// compared is what the writer makes of a tree, markers of whiteouts and link counts included.

import { closeSync, createReadStream, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { DumpReader } from '../dump/index.ts';
import { ComposefsError, DumpError, InputError } from '../errors.ts';
import {
  EROFS_SUPER_MAGIC_V1,
  EROFS_SUPER_OFFSET,
  LCFS_EROFS_MAGIC,
} from '../image-reader/format.ts';
import { Image } from '../image-reader/index.ts';
import { type ImageTree, writeImage } from '../image-writer/index.ts';
import { loadNative } from '../native.ts';
import { digestFiles } from '../source-directory/objects.ts';
import { readTree, type ReadTreeOptions } from '../source-directory/read-tree.ts';
import { cannotOpen, loadImage } from './load-image.ts';

export type SourceKind = 'image' | 'dump' | 'directory';

export interface Source {
  readonly path: string;
  readonly kind: SourceKind;
  readonly image: Image;
}

type Opened = { kind: 'image'; image: Image } | { kind: 'dump' | 'directory'; tree: ImageTree };

const HEAD_SIZE = EROFS_SUPER_OFFSET + 4;
/** The newest format that can be written; composefs-rs's 2 cannot. */
const WRITTEN_VERSION_MAX = 1;

/**
 * Opens both. A tree is written in the version of an image on the other side, since a tree by itself
 * has none. Throws what reading and writing throw, all of it with the name in front.
 */
export async function openSources(
  paths: readonly [string, string],
  options: ReadTreeOptions,
): Promise<[Source, Source]> {
  const a = await openOne(paths[0], options);
  const b = await openOne(paths[1], options);
  return [toSource(paths[0], a, b), toSource(paths[1], b, a)];
}

function toSource(path: string, opened: Opened, other: Opened): Source {
  if (opened.kind === 'image') return { path, kind: 'image', image: opened.image };
  const version = other.kind === 'image' ? other.image.composefsVersion : undefined;
  const isForced = version !== undefined && version <= WRITTEN_VERSION_MAX;
  const range = isForced ? { minVersion: version, maxVersion: version } : {};
  try {
    const image = Image.open(writeImage(opened.tree, range));
    return { path, kind: opened.kind, image };
  } catch (error) {
    throw named(path, error);
  }
}

async function openOne(path: string, options: ReadTreeOptions): Promise<Opened> {
  let isDirectory: boolean;
  try {
    isDirectory = path !== '-' && statSync(path).isDirectory();
  } catch (cause) {
    throw cannotOpen(path, cause);
  }
  if (!isDirectory) return await openFile(path);
  const native = loadNative();
  const { tree, externalFiles } = await readTree(native, path, options);
  await digestFiles(tree, externalFiles, { threads: availableParallelism() });
  return { kind: 'directory', tree };
}

async function openFile(path: string): Promise<Opened> {
  let fd: number;
  try {
    fd = path === '-' ? 0 : openSync(path, 'r');
  } catch (cause) {
    throw cannotOpen(path, cause);
  }
  const isFile = fstatSync(fd).isFile();
  if (isFile && isImage(readHead(fd))) {
    if (fd !== 0) closeSync(fd);
    if (path !== '-') return { kind: 'image', image: loadImage(path) };
  }
  try {
    return await readStream(fd);
  } catch (error) {
    throw named(path, error);
  }
}

/** The head decides; a dump is read as it comes, an image through a pipe is kept. */
async function readStream(fd: number): Promise<Opened> {
  const stream = createReadStream('', { fd, highWaterMark: 1 << 20 }) as AsyncIterable<Uint8Array>;
  const reader = new DumpReader();
  const kept: Uint8Array[] = [];
  let keptLength = 0;
  let isDump = false;
  for await (const chunk of stream) {
    if (isDump) {
      reader.push(chunk);
      continue;
    }
    kept.push(chunk);
    keptLength += chunk.length;
    if (keptLength < HEAD_SIZE || isImage(Buffer.concat(kept).subarray(0, HEAD_SIZE))) continue;
    for (const piece of kept.splice(0)) reader.push(piece);
    isDump = true;
  }
  if (!isDump) {
    const all = Buffer.concat(kept);
    if (isImage(all)) return { kind: 'image', image: Image.open(all) };
    reader.push(all);
  }
  return { kind: 'dump', tree: reader.finish() };
}

function readHead(fd: number): Uint8Array {
  const head = new Uint8Array(HEAD_SIZE);
  return head.subarray(0, readSync(fd, head, 0, head.length, 0));
}

/** An EROFS image without the header of composefs counts: its error says what is missing. */
function isImage(head: Uint8Array): boolean {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (head.length >= 4 && view.getUint32(0, true) === LCFS_EROFS_MAGIC) return true;
  return (
    head.length >= HEAD_SIZE && view.getUint32(EROFS_SUPER_OFFSET, true) === EROFS_SUPER_MAGIC_V1
  );
}

function named(path: string, error: unknown): unknown {
  const { errno } = error as NodeJS.ErrnoException;
  if (error instanceof DumpError) {
    const message = `${path}: neither an image nor a dump: ${error.message}`;
    return new InputError(message, path, { cause: error });
  }
  if (error instanceof ComposefsError) {
    return new InputError(`${path}: ${error.message}`, path, { cause: error });
  }
  return typeof errno === 'number' ? cannotOpen(path, error) : error;
}
