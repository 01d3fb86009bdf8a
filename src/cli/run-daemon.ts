// Runs a daemon in this process from the parsed command line: logging, readiness, pid file, signals.

import { endianness } from 'node:os';
import { UnsupportedFeatureError } from '../errors.ts';
import { Daemon, type DaemonOptions } from '../fuse/daemon.ts';
import { MAX_READ } from '../fuse/init.ts';
import type { MountService } from '../fuse/mount-service.ts';
import { announce, LIFELINE_VARIABLE } from '../fuse/readiness.ts';
import { createLogger, type Logger, type LogTarget } from '../log.ts';
import { loadNative, type NativeAddon } from '../native.ts';
import { ExitCode } from './exit-code.ts';
import type { CommandOptions } from './options.ts';
import { PidFile } from './pid-file.ts';
import { ServiceManager } from './service-manager.ts';

/**
 * Mounts and serves until unmounted; the exit code. With `readyDescriptor` the daemon is in the
 * background: it says there whether the mount is ready, and logs elsewhere than to standard error.
 * `notifySocket` is where a service manager wants to hear of it.
 */
export async function runDaemon(
  options: CommandOptions,
  readyDescriptor: number | undefined,
  notifySocket: string | undefined,
): Promise<number> {
  if (endianness() !== 'LE') {
    throw new UnsupportedFeatureError('endianness', 0, 'this machine is big-endian; not supported');
  }
  // Nothing of the daemon may keep another filesystem busy; and where the current directory has been
  // removed no thread can be started. All paths are absolute by now.
  process.chdir('/');
  const native = loadNative();
  const logger = createLogger(
    logTarget(options, native, readyDescriptor),
    options.logLevel,
    options.logFormat,
  );
  const daemon = await createDaemon(options, native, logger.log);
  if (options.fake) {
    await daemon.check();
    return ExitCode.OK;
  }
  const pidFile = options.pidFile === undefined ? undefined : new PidFile(options.pidFile);
  const manager = new ServiceManager(native, logger.log, notifySocket);
  const stop = (): void => {
    manager.stopping(`unmounting ${options.mountpoint}; open files are served for a while`);
    daemon.stop();
  };
  // First: a signal that comes while the mount is made must end it, not leave it dead.
  handleSignals(daemon, stop, () => {
    logger.reopen();
    daemon.forget();
  });
  await daemon.start();
  try {
    pidFile?.write();
  } catch (error) {
    daemon.stop();
    throw error;
  }
  // A starter that was interrupted meanwhile does not want the mount any more.
  if (readyDescriptor !== undefined && !announce(readyDescriptor, { ready: true })) daemon.stop();
  manager.ready(`serving ${options.image} on ${options.mountpoint}`);
  // Of 60 MiB that starting has touched a serving daemon needs a third. It may be refused.
  native.releaseProgramPages();
  const outcome = await daemon.ended;
  manager.stopping(`${options.mountpoint} is unmounted`);
  pidFile?.remove();
  // The lifeline would keep this process waiting for its starter.
  process.stdin.destroy();
  return outcome === 'clean' ? ExitCode.OK : ExitCode.INTERNAL;
}

async function createDaemon(
  options: CommandOptions,
  native: NativeAddon,
  log: Logger,
): Promise<MountService> {
  const { transport } = options;
  if (transport !== 'fuse-native') {
    return new Daemon({ ...daemonOptions(options), transport }, native, log);
  }
  // Loaded only where it is wished for, as the package is that it needs.
  const { FuseNativeDaemon } = await import('../fuse-native/daemon.ts');
  return new FuseNativeDaemon(daemonOptions(options), native, log);
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

function daemonOptions(options: CommandOptions): Omit<DaemonOptions, 'transport'> {
  const { mount } = options;
  return {
    image: options.image,
    mountpoint: options.mountpoint,
    basedirs: options.basedirs,
    digest: options.verification.digest,
    writable: options.writable,
    verification: options.verification,
    data: options.data,
    mount: {
      source: mount.fsname ?? options.image,
      flags: [...mount.flags],
      allowOther: mount.allowOther,
      maxRead: mount.maxRead ?? MAX_READ,
      kernelOptions: mount.kernelOptions,
    },
    autoUnmount: mount.autoUnmount,
    nfsExport: mount.nfsExport,
    acl: mount.acl,
    ownership: options.ownership,
    allowStacking: mount.allowStacking,
    threads: options.threads,
    pollingMicroseconds: options.pollingMicroseconds,
  };
}

/**
 * SIGTERM and SIGINT end the mount, and so does the terminal of a foreground one when it closes.
 * SIGHUP otherwise reopens the log, for its rotation, and has everything verified anew. SIGUSR1 logs
 * what was verified; left alone, Node.js would open its debugger to everyone on the machine.
 */
function handleSignals(daemon: MountService, stop: () => void, reload: () => void): void {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop);
  process.on('SIGHUP', () => (process.stderr.isTTY ? stop() : reload()));
  process.on('SIGUSR1', () => daemon.logStatistics());
  process.on('uncaughtException', (error) => daemon.fail(error));
  if (process.env[LIFELINE_VARIABLE] !== undefined) {
    process.stdin.on('end', () => daemon.stop()).on('error', () => daemon.stop());
    process.stdin.resume();
  }
}
