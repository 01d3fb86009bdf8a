// Names and link targets as strings, which is all that the package passes on. A name that is not UTF-8
// is listed with U+FFFD in it, so that its file is seen to be there, but cannot be reached.

import { isUtf8 } from 'node:buffer';
import { Errno } from '../errors.ts';
import type { ComposefsFilesystem } from '../filesystem/composefs.ts';
import type { PackageStat } from './package.ts';

/** File types of <sys/stat.h> by erofs file type; 0 for unknown ones. */
const S_IFMT_BY_FILE_TYPE = [
  0, 0o100000, 0o040000, 0o020000, 0o060000, 0o010000, 0o140000, 0o120000,
];

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** A copy: TextDecoder takes no shared memory. */
function decode(bytes: Uint8Array, start: number, length: number): string {
  return decoder.decode(bytes.slice(start, start + length));
}

/** All entries of the directory `nid`, `.` and `..` included, or -errno. */
export function listDirectory(
  filesystem: ComposefsFilesystem,
  nid: number,
): { names: string[]; stats: PackageStat[] } | number {
  const opened = filesystem.openDirectory(nid, 0);
  if (opened < 0) return opened;
  const { entry, image } = filesystem;
  const names: string[] = [];
  const stats: PackageStat[] = [];
  for (;;) {
    const more = filesystem.nextEntry();
    if (more < 0) return more;
    if (more === 0) return { names, stats };
    names.push(decode(image.bytes, entry.nameStart, entry.nameLength));
    stats.push({ ino: entry.nid, mode: S_IFMT_BY_FILE_TYPE[entry.fileType] ?? 0 });
  }
}

/** The target of the symlink `nid`, or -errno; -EILSEQ for one that is not UTF-8. */
export function readTarget(filesystem: ComposefsFilesystem, nid: number): string | number {
  const length = filesystem.readLink(nid);
  if (length < 0) return length;
  const start = filesystem.linkTargetStart;
  const bytes = filesystem.image.bytes.slice(start, start + length);
  return isUtf8(bytes) ? decoder.decode(bytes) : -Errno.EILSEQ;
}
