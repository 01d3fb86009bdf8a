// Logging of the daemon: pino, one JSON object per line, or one readable line per event on a
// terminal and in syslog. Only the main thread logs; workers post what they have to say to it.

import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { pino, type Logger } from 'pino';
import { InputError } from './errors.ts';
import type { LogFormat, LogLevel } from './log-levels.ts';
import { reasonOf } from './objects/system-errors.ts';
import type { NativeAddon } from './native.ts';

export type { Logger };

/** Where log lines go. `syslog` needs the addon and drops lines where no syslog is running. */
export type LogTarget =
  { kind: 'stderr' } | { kind: 'file'; path: string } | { kind: 'syslog'; native: NativeAddon };

/** Longer lines are cut: what syslog daemons keep is not more. */
const MAX_SYSLOG = 8000;

/** syslog priorities by pino level. */
const PRIORITY_BY_LEVEL: Readonly<Record<number, number>> = {
  60: 2,
  50: 3,
  40: 4,
  30: 6,
  20: 7,
  10: 7,
};
const LABEL_BY_LEVEL: Readonly<Record<number, string>> = {
  60: 'fatal',
  50: 'error',
  40: 'warning',
  30: 'info',
  20: 'debug',
  10: 'trace',
};

/**
 * Makes the logger. `auto` means text on a terminal and in syslog, JSON in files and pipes. Throws
 * InputError when the log file cannot be opened.
 */
export function createLogger(
  target: LogTarget,
  level: LogLevel,
  format: LogFormat,
): { log: Logger; reopen: () => void } {
  const base = { level, base: null, timestamp: pino.stdTimeFunctions.isoTime };
  switch (target.kind) {
    case 'stderr': {
      const isText = format === 'text' || (format === 'auto' && process.stderr.isTTY);
      return { log: pino(base, new LineWriter(2, isText)), reopen: () => {} };
    }
    case 'file': {
      const writer = new LineWriter(openLogFile(target.path), format === 'text');
      return { log: pino(base, writer), reopen: () => writer.replace(target.path) };
    }
    case 'syslog': {
      const write = (line: string): void => {
        const event = JSON.parse(line) as LogEvent;
        const text = format === 'json' ? line.trimEnd() : readable(event);
        target.native.syslog(PRIORITY_BY_LEVEL[event.level] ?? 6, text.slice(0, MAX_SYSLOG));
      };
      return { log: pino(base, { write }), reopen: () => {} };
    }
  }
}

interface LogEvent {
  level: number;
  time: string;
  msg?: string;
  [field: string]: unknown;
}

/** Synchronous on purpose: the last line before an exit is the one that matters. */
class LineWriter {
  #fd: number;
  readonly #isText: boolean;

  constructor(fd: number, isText: boolean) {
    this.#fd = fd;
    this.#isText = isText;
  }

  write(line: string): void {
    let text = line;
    if (this.#isText) {
      const event = JSON.parse(line) as LogEvent;
      const time = this.#fd === 2 ? '' : `${event.time} `;
      text = `composefs-fuse: ${time}${readable(event)}\n`;
    }
    try {
      writeSync(this.#fd, text);
    } catch {
      // A log that cannot be written (full disk, closed pipe) must not end the mount.
    }
  }

  /** Goes on in a file of that name, which may be a new one; in the old one if it cannot be opened. */
  replace(path: string): void {
    try {
      const fd = openLogFile(path);
      closeSync(this.#fd);
      this.#fd = fd;
    } catch {
      // Better in the old file than nowhere.
    }
  }
}

/** `warning: message (field: value, …)`; values are quoted so that no name can forge a line. */
function readable(event: LogEvent): string {
  const { level, time: _time, msg, ...fields } = event;
  const facts = Object.entries(fields).map(([name, value]) => `${name}: ${JSON.stringify(value)}`);
  const label = level === 30 ? '' : `${LABEL_BY_LEVEL[level] ?? level}: `;
  return `${label}${msg ?? ''}${facts.length > 0 ? ` (${facts.join(', ')})` : ''}`;
}

function openLogFile(path: string): number {
  let fd: number;
  try {
    // O_NONBLOCK: a FIFO without a reader must not make us wait for one.
    const { O_APPEND, O_CREAT, O_NONBLOCK, O_WRONLY } = constants;
    fd = openSync(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0o640);
  } catch (cause) {
    throw new InputError(
      `log file ${path} cannot be opened for appending: ${reasonOf(cause)}`,
      path,
      { cause },
    );
  }
  if (!fstatSync(fd).isFIFO()) return fd;
  closeSync(fd);
  throw new InputError(`log file ${path} is a FIFO; name a regular file`, path);
}
