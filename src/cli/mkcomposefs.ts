#!/usr/bin/env node
// mkcomposefs: makes a composefs image of a directory or of a dump text. See MKCOMPOSEFS_HELP.

import { createReadStream, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { AddonError, InputError, UsageError } from '../errors.ts';
import { DumpReader, readDumpStream } from '../dump/read.ts';
import { type ImageTree, planImage } from '../image-writer/index.ts';
import { describeErrno } from '../objects/system-errors.ts';
import { oneLine } from './error-line.ts';
import { ExitCode } from './exit-code.ts';
import { type MakeOptions, MKCOMPOSEFS_HELP, parseMakeCommand } from './mkcomposefs-options.ts';
import type { Prepared } from './mkcomposefs-directory.ts';
import { OutputFile } from './output-file.ts';
import { ProgressLine } from './progress.ts';
import { version } from './version.ts';

const STDOUT = 1;
/** From this size on a dump's run is long enough for V8 to do its best. */
const LONG_DUMP_BYTES = 1 << 26;
/** Of a dump that are in memory at a time. */
const READ_BYTES = 1 << 20;
const progress = new ProgressLine();

async function prepare(options: MakeOptions): Promise<Prepared> {
  if (options.fromFile) return { tree: await readDumpFile(options.source) };
  // Loaded for directories only: 36 modules of 76, 40 ms of the start (measured 2026-11).
  compileLess();
  const { prepareDirectory } = await import('./mkcomposefs-directory.ts');
  return await prepareDirectory(options, progress);
}

/**
 * Has V8 inline a fifth of what it would. Most runs end before the optimizing compiler has caught up
 * with them: with 64,000 lines of a dump the compiler took more processor time than the work itself,
 * and its threads the second core. 14 interleaved runs in November 2026, all threads: 0.94 s before,
 * 0.83 s with it. Costs 7 % of 4 s with 1,000,000 lines.
 */
function compileLess(): void {
  setFlagsFromString('--max-inlined-bytecode-size-cumulative=200');
}

/** A file is read without a turn of the event loop for every piece, a pipe as it comes. */
async function readDumpFile(source: string): Promise<ImageTree> {
  const strict = process.env['CFS_PARSE_STRICT'] !== undefined;
  try {
    const fd = source === '-' ? 0 : openSync(source, 'r');
    const status = fstatSync(fd);
    if (!status.isFile() || status.size < LONG_DUMP_BYTES) compileLess();
    if (status.isFile()) return readRegularFile(fd, strict);
    const chunks = createReadStream('', { fd, highWaterMark: READ_BYTES });
    return await readDumpStream(chunks as AsyncIterable<Uint8Array>, { strict });
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    if (errno === undefined) throw error;
    throw new InputError(`open \`${source}\`: ${describeErrno(errno)}`, source, { cause: error });
  }
}

function readRegularFile(fd: number, strict: boolean): ImageTree {
  const reader = new DumpReader({ strict });
  const piece = new Uint8Array(READ_BYTES);
  for (let length = readSync(fd, piece); length > 0; length = readSync(fd, piece)) {
    reader.push(piece.subarray(0, length));
  }
  return reader.finish();
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
    let digest: string | undefined;
    if (options.printDigest || options.json) {
      const bytes = plan.bytes();
      digest = (await import('../verify/index.ts')).measureBytes(bytes).hex;
      sink?.write(bytes);
    } else {
      // In pieces, since nobody needs the whole of it in memory.
      for (const piece of plan.chunks()) sink?.write(piece);
    }
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
  process.stderr.write(`mkcomposefs: ${oneLine(error)}\n`);
  process.exitCode = error instanceof AddonError ? ExitCode.ADDON : 1;
}
