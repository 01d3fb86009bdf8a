#!/usr/bin/env node
// mkcomposefs: makes a composefs image of a directory or of a dump text. See MKCOMPOSEFS_HELP.

import { createReadStream, fstatSync, openSync, readFileSync, writeSync } from 'node:fs';
import { ComposefsError, InputError, UsageError } from '../errors.ts';
import { readDump, readDumpStream } from '../dump/index.ts';
import { type ImageTree, planImage } from '../image-writer/index.ts';
import { loadNative } from '../native.ts';
import { digestFiles, storeFiles, type StoreSummary } from '../source-directory/objects.ts';
import { type ExternalFile, readTree } from '../source-directory/read-tree.ts';
import { describeErrno } from '../source-directory/system-errors.ts';
import { measureBytes } from '../verify/index.ts';
import { escapeControls } from './escape-controls.ts';
import { type MakeOptions, MKCOMPOSEFS_HELP, parseMakeCommand } from './mkcomposefs-options.ts';
import { OutputFile } from './output-file.ts';
import { ProgressLine } from './progress.ts';
import { version } from './version.ts';

const STDOUT = 1;
const progress = new ProgressLine();

/** What was put together before the image is laid out. */
interface Prepared {
  tree: ImageTree;
  store?: StoreSummary;
}

async function prepare(options: MakeOptions): Promise<Prepared> {
  if (options.fromFile) return { tree: await readDumpFile(options.source) };
  const native = loadNative();
  const { tree, externalFiles } = await readTree(native, options.source, {
    useEpoch: options.useEpoch,
    skipDevices: options.skipDevices,
    skipXattrs: options.skipXattrs,
    userXattrs: options.userXattrs,
    hardLinks: options.hardLinks,
    onProgress: (entries) => progress.update(() => `reading ${options.source}: ${entries} entries`),
  });
  const objects = { threads: options.threads, onProgress: showFiles(externalFiles) };
  if (options.digestStore === undefined) {
    await digestFiles(tree, externalFiles, objects);
    return { tree };
  }
  const store = await storeFiles(native, tree, externalFiles, options.digestStore, objects);
  return { tree, store };
}

function showFiles(files: readonly ExternalFile[]) {
  return (done: { files: number; bytes: bigint }): void =>
    progress.update(() => `${done.files} of ${files.length} files, ${done.bytes >> 20n} MiB`);
}

/** A file is read at once, a pipe as it comes. */
async function readDumpFile(source: string): Promise<ImageTree> {
  const strict = process.env['CFS_PARSE_STRICT'] !== undefined;
  try {
    const fd = source === '-' ? 0 : openSync(source, 'r');
    if (fstatSync(fd).isFile()) return readDump(readFileSync(fd), { strict });
    const chunks = createReadStream('', { fd, highWaterMark: 1 << 20 });
    return await readDumpStream(chunks as AsyncIterable<Uint8Array>, { strict });
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    if (errno === undefined) throw error;
    throw new InputError(`open \`${source}\`: ${describeErrno(errno)}`, source, { cause: error });
  }
}

/** Where the image's bytes go. */
interface Sink {
  write(bytes: Uint8Array): void;
  commit(): void;
  discard(): void;
}

function openSink(image: string | undefined): Sink | undefined {
  if (image === undefined) return undefined;
  if (image !== '-') return new OutputFile(image);
  if (process.stdout.isTTY) throw new UsageError('stdout is a tty.  Refusing to use it');
  return {
    write: (bytes) => {
      for (let at = 0; at < bytes.length;) at += writeSync(STDOUT, bytes, at);
    },
    commit: () => {},
    discard: () => {},
  };
}

async function make(options: MakeOptions): Promise<void> {
  const sink = openSink(options.image);
  try {
    const prepared = await prepare(options);
    const { minVersion, maxVersion } = options;
    const plan = planImage(prepared.tree, { minVersion, maxVersion });
    const bytes = plan.bytes();
    const needsDigest = options.printDigest || options.json;
    const digest = needsDigest ? measureBytes(bytes).hex : undefined;
    sink?.write(bytes);
    sink?.commit();
    progress.clear();
    if (options.json) {
      const { image = null } = options;
      const made = { image, digest, ...plan.facts(), objects: prepared.store ?? null };
      process.stdout.write(`${JSON.stringify(made)}\n`);
    } else if (digest !== undefined) {
      process.stdout.write(`${digest}\n`);
    }
  } catch (error) {
    sink?.discard();
    throw error;
  } finally {
    progress.clear();
  }
}

async function main(): Promise<void> {
  const command = parseMakeCommand(process.argv.slice(2));
  switch (command.kind) {
    case 'help':
      process.stdout.write(MKCOMPOSEFS_HELP);
      return;
    case 'version':
      process.stdout.write(`mkcomposefs ${version()}\n`);
      return;
    case 'make':
      // libuv reads it when the pool is first used, which is in make().
      process.env['UV_THREADPOOL_SIZE'] = String(Math.max(command.options.threads, 4));
      await make(command.options);
  }
}

try {
  await main();
} catch (error) {
  const text =
    error instanceof ComposefsError
      ? escapeControls(error.message)
      : error instanceof Error
        ? (error.stack ?? error.message)
        : String(error);
  process.stderr.write(`mkcomposefs: ${text}\n`);
  process.exitCode = 1;
}
