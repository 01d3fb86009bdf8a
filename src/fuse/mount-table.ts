// Reads the kernel's mount table of this process, /proc/self/mountinfo (proc(5)). It never touches a
// mount itself, so a hung or dead one cannot block it.

import { readFileSync } from 'node:fs';
import { MountError } from '../errors.ts';

const MOUNT_TABLE = '/proc/self/mountinfo';

export interface MountTableEntry {
  /** Number of this mount, unique while it exists. */
  id: number;
  /** `major:minor` of the superblock, for FUSE also the name of its control directory. */
  device: string;
  mountpoint: string;
  type: string;
  source: string;
  /** Options of the superblock, not unescaped. */
  superOptions: string;
}

/**
 * All mounts this process sees, lowest first: the last one on a mountpoint is the visible one.
 * Throws MountError without /proc.
 */
export function readMountTable(): MountTableEntry[] {
  let table: string;
  try {
    table = readFileSync(MOUNT_TABLE, 'utf8');
  } catch (cause) {
    throw new MountError(`${MOUNT_TABLE} cannot be read; is /proc mounted?`, {
      path: MOUNT_TABLE,
      cause,
    });
  }
  const lines = table.split('\n');
  return lines.filter((line) => line !== '').map(parseLine);
}

/** The visible mount on exactly this absolute path. */
export function findMount(mountpoint: string): MountTableEntry | undefined {
  return readMountTable().findLast((entry) => entry.mountpoint === mountpoint);
}

/** Whether a mount is served by a FUSE daemon. */
export function isFuseMount(entry: MountTableEntry): boolean {
  return entry.type === 'fuse' || entry.type.startsWith('fuse.');
}

/** `ID PARENT DEVICE ROOT MOUNTPOINT OPTIONS [OPTIONAL…] - TYPE SOURCE SUPEROPTIONS`. */
function parseLine(line: string): MountTableEntry {
  const [before = '', after = ''] = line.split(' - ', 2);
  const [id = '', , device = '', , mountpoint = ''] = before.split(' ');
  const [type = '', source = '', superOptions = ''] = after.split(' ');
  return {
    id: Number(id),
    device,
    mountpoint: unescapeOctal(mountpoint),
    type: unescapeOctal(type),
    source: unescapeOctal(source),
    superOptions,
  };
}

/** Whether a mount is an overlayfs that was stacked over our own mount on the same mountpoint. */
export function isOurOverlay({ type, mountpoint, superOptions }: MountTableEntry): boolean {
  if (type !== 'overlay') return false;
  return superOptions.split(',').some((option) => {
    const [name, value = ''] = option.split('=', 2);
    // Before Linux 6.13 the first layer is the descriptor that was passed.
    if (name === 'lowerdir') return value.startsWith('/proc/self/fd/');
    return name === 'lowerdir+' && unescapeOctal(value) === mountpoint;
  });
}

/** The overlayfs of this process's namespace that has `upperdir` as its writable layer. */
export function findOverlayOn(upperdir: string): MountTableEntry | undefined {
  return readMountTable().find(
    ({ type, superOptions }) =>
      type === 'overlay' &&
      superOptions
        .split(',')
        .some(
          (option) =>
            option.startsWith('upperdir=') &&
            unescapeOctal(option.slice('upperdir='.length)) === upperdir,
        ),
  );
}

/** As the kernel writes paths into the table. */
export function escapeOctal(text: string): string {
  return text.replace(
    /[ \t\n\\]/g,
    (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`,
  );
}

/** Space, tab, newline and backslash appear as three octal digits, in options commas too. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
