// Tells the service manager how far the daemon is, by the protocol of sd_notify(3): a datagram of
// NAME=VALUE lines to the socket that it names in the environment.

import { errnoName } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { NativeAddon } from '../native.ts';
import { escapeControls } from './escape-controls.ts';

const SOCKET_VARIABLE = 'NOTIFY_SOCKET';

/**
 * The socket's address, or undefined where nobody listens. Takes it out of the environment: what this
 * process starts must not speak for it.
 */
export function takeNotifySocket(): string | undefined {
  const address = process.env[SOCKET_VARIABLE];
  delete process.env[SOCKET_VARIABLE];
  return address === '' ? undefined : address;
}

export class ServiceManager {
  readonly #native: NativeAddon;
  readonly #log: Logger;
  #address: string | undefined;
  #isStopping = false;

  /** `address` from `takeNotifySocket`; without one nothing is ever sent. */
  constructor(native: NativeAddon, log: Logger, address: string | undefined) {
    this.#native = native;
    this.#log = log;
    this.#address = address;
  }

  /** The mount is usable. `status` is one line for people. */
  ready(status: string): void {
    this.#send(['READY=1', statusLine(status)]);
  }

  /** The mount ends. Only the first call is told. */
  stopping(status: string): void {
    if (this.#isStopping) return;
    this.#isStopping = true;
    this.#send(['STOPPING=1', statusLine(status)]);
  }

  #send(lines: readonly string[]): void {
    const address = this.#address;
    if (address === undefined) return;
    const result = this.#native.sendDatagram(address, lines.join('\n'));
    if (result === 0) return;
    // A manager that cannot be told is no reason to end a mount.
    this.#address = undefined;
    this.#log.warn(
      { socket: address, errno: errnoName(result) },
      `the service manager cannot be told anything: ${errnoName(result)} for ${SOCKET_VARIABLE}`,
    );
  }
}

/** Paths in it cannot forge another line. */
function statusLine(status: string): string {
  return `STATUS=${escapeControls(status)}`;
}
