// Takes apart what the addon's scanDirectory returns: one entry at a time, as attributes for a tree.

import { SCAN_RECORD } from '../native.ts';
import type { NodeAttributes } from '../image-writer/index.ts';

const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;

/** An entry of a scanned directory. The first one of a scan is the directory itself, nameless. */
export interface ScannedEntry {
  name: Uint8Array;
  mode: number;
  size: bigint;
  nlink: number;
  /** Identifies the inode, for hard links: device and number. */
  inode: string;
  attributes: NodeAttributes;
}

/** `useEpoch` replaces every modification time by 0. */
export function* readScan(records: Uint8Array, useEpoch: boolean): Generator<ScannedEntry> {
  const view = new DataView(records.buffer, records.byteOffset, records.byteLength);
  for (let at = 0; at < records.length; at += view.getUint32(at + SCAN_RECORD.LENGTH, true)) {
    const nameStart = at + SCAN_RECORD.SIZE;
    const nameEnd = nameStart + view.getUint16(at + SCAN_RECORD.NAME_LENGTH, true);
    const contentEnd = nameEnd + view.getUint16(at + SCAN_RECORD.CONTENT_LENGTH, true);
    const xattrsEnd = contentEnd + view.getUint32(at + SCAN_RECORD.XATTRS_LENGTH, true);
    const mode = view.getUint32(at + SCAN_RECORD.MODE, true);
    const size = view.getBigUint64(at + SCAN_RECORD.SIZE_FIELD, true);
    const content = records.subarray(nameEnd, contentEnd);
    const type = mode & S_IFMT;
    yield {
      name: records.subarray(nameStart, nameEnd),
      mode,
      size,
      nlink: view.getUint32(at + SCAN_RECORD.NLINK, true),
      inode: `${view.getBigUint64(at + SCAN_RECORD.DEV, true)}:${view.getBigUint64(at + SCAN_RECORD.INO, true)}`,
      attributes: {
        mode,
        uid: view.getUint32(at + SCAN_RECORD.UID, true),
        gid: view.getUint32(at + SCAN_RECORD.GID, true),
        rdev: view.getUint32(at + SCAN_RECORD.RDEV, true),
        mtime: {
          seconds: useEpoch ? 0n : view.getBigInt64(at + SCAN_RECORD.MTIME_SECONDS, true),
          nanoseconds: useEpoch ? 0 : view.getUint32(at + SCAN_RECORD.MTIME_NANOSECONDS, true),
        },
        ...(type === S_IFREG ? { size } : {}),
        ...(type === S_IFREG && content.length > 0 ? { content } : {}),
        ...(type === S_IFLNK ? { target: content } : {}),
        xattrs: readXattrs(records, view, contentEnd, xattrsEnd),
      },
    };
  }
}

function readXattrs(
  records: Uint8Array,
  view: DataView,
  start: number,
  end: number,
): [name: Uint8Array, value: Uint8Array][] {
  const xattrs: [Uint8Array, Uint8Array][] = [];
  for (let at = start; at < end;) {
    const nameStart = at + 6;
    const nameEnd = nameStart + view.getUint16(at, true);
    const valueEnd = nameEnd + view.getUint32(at + 2, true);
    xattrs.push([records.subarray(nameStart, nameEnd), records.subarray(nameEnd, valueEnd)]);
    at = valueEnd;
  }
  return xattrs;
}
