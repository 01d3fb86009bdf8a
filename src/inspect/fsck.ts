// Checks an image and its objects.

import { InputError } from '../errors.ts';
import { type Image, ObjectRef, readObjectRef, walkEntries } from '../image-reader/index.ts';
import { loadNative, type NativeAddon } from '../native.ts';
import { describeErrno } from '../objects/system-errors.ts';
import { checkObjects, type ObjectFacts } from './check-objects.ts';
import { checkStructure } from './check-structure.ts';
import { toJsonNumber } from './texts.ts';
import { FsckBit, PATH_SHOWN, type Problem, type Report } from './problem.ts';

export interface FsckSummary {
  /** Bits of FsckBit. */
  readonly exitCode: number;
  readonly names: number;
  readonly inodes: number;
  readonly imageProblems: number;
  readonly warnings: number;
  /** Files, not objects: each path is named. */
  readonly filesWithoutObject: number;
  readonly filesWithWrongObject: number;
  /** undefined when objects were not looked at. */
  readonly objects: Omit<ObjectFacts, 'problems'> | undefined;
}

export interface FsckOptions {
  /** Searched in this order; undefined leaves the objects out. */
  readonly basedirs: readonly string[] | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** Reports problems as they are found. Throws InputError for a base directory. */
export async function checkImage(
  image: Image,
  report: Report,
  options: FsckOptions,
): Promise<FsckSummary> {
  const counts = { image: 0, warning: 0, missing: 0, object: 0 };
  const count = (problem: Problem): void => {
    counts[problem.kind]++;
    report(problem);
  };
  // Before the image is read, which may take longer.
  const native = options.basedirs === undefined ? undefined : loadNative();
  const basedirs = native === undefined ? [] : openBasedirs(native, options.basedirs ?? []);
  try {
    const { names, inodes, files } = checkStructure(image, count);
    let objects: ObjectFacts | undefined;
    if (native !== undefined) {
      const { onProgress } = options;
      objects = await checkObjects(native, image, files, basedirs, { onProgress });
      reportPaths(image, objects.problems, count);
    }
    return {
      exitCode: exitCodeOf(counts),
      names,
      inodes,
      imageProblems: counts.image,
      warnings: counts.warning,
      filesWithoutObject: counts.missing,
      filesWithWrongObject: counts.object,
      objects,
    };
  } finally {
    for (const fd of basedirs) native?.closeDescriptor(fd);
  }
}

export function openBasedirs(native: NativeAddon, paths: readonly string[]): number[] {
  const opened: number[] = [];
  for (const path of paths) {
    const fd = native.openBasedir(path);
    if (fd < 0) {
      for (const other of opened) native.closeDescriptor(other);
      throw new InputError(`Can't open basedir \`${path}\`: ${describeErrno(fd)}`, path);
    }
    opened.push(fd);
  }
  return opened;
}

function exitCodeOf(counts: Readonly<Record<Problem['kind'], number>>): number {
  return (
    (counts.image > 0 ? FsckBit.IMAGE : 0) |
    (counts.missing > 0 ? FsckBit.MISSING : 0) |
    (counts.object > 0 ? FsckBit.OBJECT : 0)
  );
}

/** Names every path whose object is not right. Walks past damage, as a mount does. */
function reportPaths(image: Image, problems: ObjectFacts['problems'], report: Report): void {
  if (problems.size === 0) return;
  const ref = new ObjectRef();
  const parents = new Map<number, { parentNid: number; start: number; length: number }>();
  walkEntries(image, (inode, parentNid, nameStart, nameLength) => {
    const { nid } = inode;
    // A second name would make a circle that a path never ends in.
    if (inode.isDirectory && nid !== image.rootNid && !parents.has(nid)) {
      parents.set(nid, { parentNid, start: nameStart, length: nameLength });
    }
    const problem = problems.get(nid);
    if (problem === undefined) return false;
    const names = [image.bytes.slice(nameStart, nameStart + nameLength)];
    let total = nameLength;
    let up = parents.get(parentNid);
    while (up !== undefined && total <= PATH_SHOWN) {
      names.push(image.bytes.slice(up.start, up.start + up.length));
      total += up.length + 1;
      up = parents.get(up.parentNid);
    }
    readObjectRef(image, inode, ref);
    const object = image.bytes.slice(ref.pathStart, ref.pathStart + ref.pathLength);
    report({ path: joinNames(names.reverse()), object, ...problem });
    return false;
  });
}

function joinNames(names: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(names.flatMap((name) => [Buffer.from('/'), name]));
}

/** The last line for a terminal. */
export function describeSummary(summary: FsckSummary): string {
  const { names, inodes, imageProblems, warnings, objects } = summary;
  const found = [
    `${imageProblems} image problems`,
    ...(objects === undefined
      ? []
      : [
          `${summary.filesWithoutObject} files without their object`,
          `${summary.filesWithWrongObject} files with a wrong object`,
        ]),
    `${warnings} warnings`,
  ].join(', ');
  const checked =
    objects === undefined
      ? 'objects not checked'
      : `${objects.objects} objects with ${objects.bytes} bytes ` +
        `(${objects.byKernel} digests from the kernel, ${objects.unverified} objects without one)`;
  const verdict = summary.exitCode === 0 ? 'clean' : 'NOT CLEAN';
  return `${verdict}: ${names} names, ${inodes} inodes, ${checked}: ${found}\n`;
}

export function summaryToJson(summary: FsckSummary): object {
  const { objects } = summary;
  if (objects === undefined) return { ...summary, objects: null };
  const { objects: count, bytes, byKernel, unverified } = objects;
  return { ...summary, objects: { count, bytes: toJsonNumber(bytes), byKernel, unverified } };
}
