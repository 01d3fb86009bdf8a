#!/usr/bin/env node
// composefs-info: shows, checks and compares images. See INFO_HELP. The work is done in src/inspect;
// here are its output, errors and exit codes.

import { dumpImageChunks } from '../dump/index.ts';
import { AddonError, ImageError, UnsupportedFeatureError } from '../errors.ts';
import type { Image } from '../image-reader/index.ts';
import { compareSources, describeDiff, describeDifference } from '../inspect/diff.ts';
import { differenceToJson, diffToJson } from '../inspect/diff.ts';
import { openSources } from '../inspect/diff-sources.ts';
import { entryToJson, imageEntries, lsLine } from '../inspect/entries.ts';
import { checkImage, describeSummary, summaryToJson } from '../inspect/fsck.ts';
import { loadImage, reading } from '../inspect/load-image.ts';
import { digestOfFile } from '../inspect/measure-file.ts';
import { checkBasedirs, collectObjects, isMissing, sortKeys } from '../inspect/object-list.ts';
import { Output, OutputClosed } from '../inspect/output.ts';
import { describeProblem, FsckBit, problemToJson } from '../inspect/problem.ts';
import { refuseSharedBytes } from '../inspect/shared-bytes.ts';
import { describeStatistics, readStatistics, statisticsToJson } from '../inspect/statistics.ts';
import { fromKey, toJsonBytes } from '../inspect/texts.ts';
import {
  INFO_HELP,
  INFO_USAGE,
  type InfoOptions,
  InfoUsageError,
  parseInfoCommand,
} from './composefs-info-options.ts';
import { oneLine } from './error-line.ts';
import { ExitCode } from './exit-code.ts';
import { ProgressLine } from './progress.ts';
import { version } from './version.ts';

const Exit = {
  FAILURE: 1,
  /** diff: as diff(1). */
  DIFFERENT: 1,
  TROUBLE: 2,
  /** What a shell shows for a program that SIGPIPE ended. */
  CLOSED_PIPE: 141,
} as const;

const output = new Output();
const progress = new ProgressLine();

/** One image after the other: what came before a bad one is printed. */
function list(options: InfoOptions): void {
  for (const path of options.operands) {
    const image = loadImage(path);
    reading(path, () => listOne(image, options));
  }
}

function listOne(image: Image, { command, filter, json }: InfoOptions): void {
  refuseSharedBytes(image);
  const isLs = command === 'ls';
  if (!isLs && !json) {
    for (const chunk of dumpImageChunks(image, { filter })) output.bytes(chunk);
    return;
  }
  for (const entry of imageEntries(image, filter)) {
    if (isLs && entry.path === '/') continue;
    if (json) output.json(entryToJson(entry));
    else output.text(lsLine(entry));
  }
}

/** Nothing is printed when one of the images is bad. */
function listObjects({ command, operands, basedirs, filter, json }: InfoOptions): void {
  const isMissingOnly = command === 'missing-objects';
  if (isMissingOnly) checkBasedirs(basedirs);
  const keys = new Set<string>();
  for (const path of operands) {
    const image = loadImage(path);
    reading(path, () => collectObjects(image, filter, keys));
  }
  const shown = sortKeys(keys).filter((key) => !isMissingOnly || isMissing(key, basedirs));
  if (json) {
    output.json(shown.map((key) => toJsonBytes(fromKey(key))));
    return;
  }
  for (const key of shown) output.key(`${key}\n`);
}

async function measureAll({ operands, json }: InfoOptions): Promise<void> {
  const measured: object[] = [];
  for (const path of operands) {
    const { hex, sizeBytes, isKernels } = await digestOfFile(path);
    measured.push({ path, digest: hex, sizeBytes, isKernels });
    if (json) continue;
    output.text(`${hex}\n`);
    // A digest that is known is seen, also when the next file takes long or fails.
    output.flush();
  }
  if (json) output.json(measured);
}

function showStatistics({ operands, json }: InfoOptions): void {
  const path = operands[0]!;
  const image = loadImage(path);
  const facts = reading(path, () => readStatistics(image));
  if (json) output.json(statisticsToJson(facts));
  else output.text(describeStatistics(facts));
}

async function fsck({ operands, basedirs, json, metadataOnly }: InfoOptions): Promise<number> {
  const path = operands[0]!;
  const summary = await checkImage(
    loadImage(path),
    (problem) => {
      progress.clear();
      if (json) output.json(problemToJson(problem));
      else output.text(describeProblem(problem));
    },
    {
      basedirs: metadataOnly ? undefined : basedirs,
      onProgress: (done, total) => progress.update(() => `${path}: ${done} of ${total} objects`),
    },
  );
  progress.clear();
  if (json) output.json({ summary: summaryToJson(summary) });
  else output.text(describeSummary(summary));
  return summary.exitCode;
}

async function diff({ operands, json, ...options }: InfoOptions): Promise<number> {
  const [a, b] = await openSources([operands[0]!, operands[1]!], {
    ...options,
    onProgress: (entries) => progress.update(() => `reading: ${entries} entries`),
  });
  progress.clear();
  const summary = compareSources(a, b, (difference) => {
    if (json) output.json(differenceToJson(difference));
    else output.text(describeDifference(difference));
  });
  if (json) output.json({ summary: diffToJson(summary) });
  else output.text(describeDiff(summary));
  return summary.isEqual ? 0 : Exit.DIFFERENT;
}

async function run(options: InfoOptions): Promise<number> {
  switch (options.command) {
    case 'ls':
    case 'dump':
      list(options);
      return 0;
    case 'objects':
    case 'missing-objects':
      listObjects(options);
      return 0;
    case 'measure-file':
      await measureAll(options);
      return 0;
    case 'stat':
      showStatistics(options);
      return 0;
    case 'fsck':
      return await fsck(options);
    case 'diff':
      return await diff(options);
  }
}

async function main(args: readonly string[]): Promise<number> {
  const command = parseInfoCommand(args);
  switch (command.kind) {
    case 'help':
      output.text(INFO_HELP);
      return 0;
    case 'version':
      output.text(`composefs-info ${version()}\n`);
      return 0;
    case 'run':
      return await run(command.options);
  }
}

function describe(error: unknown): string {
  const line = `composefs-info: ${oneLine(error)}\n`;
  return error instanceof InfoUsageError ? `${line}${INFO_USAGE}\n` : line;
}

/** The command decides what a failure is called. */
function exitCodeOf(error: unknown, args: readonly string[]): number {
  if (error instanceof AddonError) return ExitCode.ADDON;
  const command = args.find((arg) => !arg.startsWith('-'));
  if (command === 'diff') return Exit.TROUBLE;
  const isDamage = error instanceof ImageError || error instanceof UnsupportedFeatureError;
  return command === 'fsck' && isDamage ? FsckBit.IMAGE : Exit.FAILURE;
}

const args = process.argv.slice(2);
try {
  try {
    process.exitCode = await main(args);
  } finally {
    progress.clear();
    output.flush();
  }
} catch (error) {
  if (error instanceof OutputClosed) {
    process.exitCode = Exit.CLOSED_PIPE;
  } else {
    process.stderr.write(describe(error));
    process.exitCode = exitCodeOf(error, args);
  }
}
