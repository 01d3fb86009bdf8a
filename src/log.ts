// Logging of the daemon: pino, one JSON object per line, or one readable line per event on a
// terminal and in syslog. Only the main thread logs; workers post what they have to say to it.

import { openSync, writeSync } from 'node:fs';
import { pino, type Logger } from 'pino';
import { InputError } from './errors.ts';
import type { LogFormat, LogLevel } from './log-levels.ts';
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
export function createLogger(target: LogTarget, level: LogLevel, format: LogFormat): Logger {
  const base = { level, base: null, timestamp: pino.stdTimeFunctions.isoTime };
  switch (target.kind) {
    case 'stderr': {
      const isText = format === 'text' || (format === 'auto' && process.stderr.isTTY);
      return pino(base, lineWriter(2, isText));
    }
    case 'file':
      return pino(base, lineWriter(openLogFile(target.path), format === 'text'));
    case 'syslog':
      return pino(base, {
        write(line: string) {
          const event = JSON.parse(line) as LogEvent;
          const text = format === 'json' ? line.trimEnd() : readable(event);
          target.native.syslog(PRIORITY_BY_LEVEL[event.level] ?? 6, text.slice(0, MAX_SYSLOG));
        },
      });
  }
}

interface LogEvent {
  level: number;
  time: string;
  msg?: string;
  [field: string]: unknown;
}

/** Synchronous on purpose: the last line before an exit is the one that matters. */
function lineWriter(fd: number, isText: boolean): { write(line: string): void } {
  return {
    write(line: string) {
      let text = line;
      if (isText) {
        const event = JSON.parse(line) as LogEvent;
        const time = fd === 2 ? '' : `${event.time} `;
        text = `composefs-fuse: ${time}${readable(event)}\n`;
      }
      try {
        writeSync(fd, text);
      } catch {
        // A log that cannot be written (full disk, closed pipe) must not end the mount.
      }
    },
  };
}

/** `warning: message (field: value, …)`; values are quoted so that no name can forge a line. */
function readable(event: LogEvent): string {
  const { level, time: _time, msg, ...fields } = event;
  const facts = Object.entries(fields).map(([name, value]) => `${name}: ${JSON.stringify(value)}`);
  const label = level === 30 ? '' : `${LABEL_BY_LEVEL[level] ?? level}: `;
  return `${label}${msg ?? ''}${facts.length > 0 ? ` (${facts.join(', ')})` : ''}`;
}

function openLogFile(path: string): number {
  try {
    return openSync(path, 'a', 0o640);
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code ?? String(cause);
    throw new InputError(`log file ${path} cannot be opened for appending (${reason})`, path, {
      cause,
    });
  }
}
