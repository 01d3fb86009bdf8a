// Runs a daemon in this process from the parsed command line: logging, readiness, pid file, signals.

import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { endianness } from 'node:os';
import { InputError, UnsupportedFeatureError } from '../errors.ts';
import { Daemon, type DaemonOptions } from '../fuse/daemon.ts';
import { MAX_READ } from '../fuse/init.ts';
import { announce, LIFELINE_VARIABLE } from '../fuse/readiness.ts';
import { createLogger, type LogTarget } from '../log.ts';
import { loadNative, type NativeAddon } from '../native.ts';
import { describeError, ExitCode, exitCodeOf } from './exit.ts';
import type { CommandOptions } from './options.ts';

/** Microseconds a worker looks for the next request before it sleeps. See docs/performance.md. */
const DEFAULT_POLLING_MICROSECONDS = 50;

/**
 * Mounts and serves until unmounted; the exit code. With `readyDescriptor` the daemon is in the
 * background: it says there whether the mount is ready, and logs elsewhere than to standard error.
 */
export async function runDaemon(
  options: CommandOptions,
  readyDescriptor: number | undefined,
): Promise<number> {
  try {
    if (endianness() !== 'LE') {
      throw new UnsupportedFeatureError(
        'endianness',
        0,
        'this machine is big-endian; not supported',
      );
    }
    const native = loadNative();
    const log = createLogger(
      logTarget(options, native, readyDescriptor),
      options.logLevel,
      options.logFormat,
    );
    const daemon = new Daemon(daemonOptions(options), native, log);
    if (options.fake) {
      daemon.check();
      return ExitCode.OK;
    }
    // First: a signal that comes while the mount is made must end it, not leave it dead.
    endOnSignals(daemon);
    daemon.start();
    if (options.pidFile !== undefined) writePidFile(options.pidFile, daemon);
    // Nothing of the daemon may keep another filesystem busy.
    process.chdir('/');
    if (readyDescriptor !== undefined) announce(readyDescriptor, { ready: true });
    const outcome = await daemon.ended;
    if (options.pidFile !== undefined) rmSync(options.pidFile, { force: true });
    // The lifeline would keep this process waiting for its starter.
    process.stdin.destroy();
    return outcome === 'clean' ? ExitCode.OK : ExitCode.INTERNAL;
  } catch (error) {
    if (readyDescriptor === undefined) throw error;
    announce(readyDescriptor, {
      ready: false,
      message: describeError(error),
      exitCode: exitCodeOf(error),
    });
    return exitCodeOf(error);
  }
}

function logTarget(
  options: CommandOptions,
  native: NativeAddon,
  readyDescriptor: number | undefined,
): LogTarget {
  if (options.logFile !== undefined) return { kind: 'file', path: options.logFile };
  const isOwned = process.env[LIFELINE_VARIABLE] !== undefined;
  if (readyDescriptor === undefined || isOwned) return { kind: 'stderr' };
  return { kind: 'syslog', native };
}

function daemonOptions(options: CommandOptions): DaemonOptions {
  const { mount } = options;
  return {
    image: options.image,
    mountpoint: options.mountpoint,
    basedirs: options.basedirs,
    mount: {
      source: mount.fsname ?? options.image,
      flags: [...mount.flags],
      allowOther: mount.allowOther,
      maxRead: mount.maxRead ?? MAX_READ,
      kernelOptions: mount.kernelOptions,
    },
    acl: mount.acl,
    allowStacking: mount.allowStacking,
    threads: options.threads,
    pollingMicroseconds: options.pollingMicroseconds ?? DEFAULT_POLLING_MICROSECONDS,
  };
}

function endOnSignals(daemon: Daemon): void {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => daemon.stop());
  // A terminal that closes ends a foreground mount as Control-C does.
  process.on('SIGHUP', () => daemon.stop());
  if (process.env[LIFELINE_VARIABLE] !== undefined) {
    process.stdin.on('end', () => daemon.stop()).on('error', () => daemon.stop());
    process.stdin.resume();
  }
}

/** Appears complete or not at all. A mount whose pid file cannot be written is taken down again. */
function writePidFile(path: string, daemon: Daemon): void {
  const temporary = `${path}.${process.pid}`;
  try {
    const fd = openSync(temporary, 'wx', 0o644);
    try {
      writeSync(fd, `${process.pid}\n`);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (cause) {
    rmSync(temporary, { force: true });
    daemon.stop();
    const reason = (cause as NodeJS.ErrnoException).code ?? String(cause);
    throw new InputError(`pid file ${path} cannot be written (${reason})`, path, { cause });
  }
}
