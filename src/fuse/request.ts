// A cursor over one request in the session's request buffer. It has three bases (header, fixed
// arguments, payload): over read(2) the parts are adjacent, over io_uring they lie apart. Valid
// until the next exchange; nothing is copied.

import { Errno } from '../errors.ts';
import { fixedArgumentsSize, IN_HEADER } from './abi.ts';

const TWO_POW_32 = 0x1_0000_0000;

export class Request {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  #headerStart = 0;
  #argumentsStart = 0;
  #payloadStart = 0;
  #end = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /**
   * Points the cursor at a request of `length` bytes that was read(2) to the start of the buffer.
   * 0, or -EIO when the message contradicts itself; nothing but opcode and unique may be used then.
   */
  loadAdjacent(length: number): number {
    this.#headerStart = 0;
    this.#argumentsStart = IN_HEADER.SIZE;
    this.#payloadStart = IN_HEADER.SIZE;
    this.#end = length;
    if (length < IN_HEADER.SIZE || this.view.getUint32(IN_HEADER.LEN, true) !== length) {
      return -Errno.EIO;
    }
    this.#payloadStart += fixedArgumentsSize(this.opcode);
    return this.#payloadStart <= length ? 0 : -Errno.EIO;
  }

  get opcode(): number {
    return this.view.getUint32(this.#headerStart + IN_HEADER.OPCODE, true);
  }

  /** Node ids are handed out by us and stay below 2^53. */
  get nodeid(): number {
    return this.#u64(this.#headerStart + IN_HEADER.NODEID);
  }

  /** The two words of the request's id. It is copied, never computed with: bit 63 has a meaning. */
  get uniqueLow(): number {
    return this.view.getUint32(this.#headerStart + IN_HEADER.UNIQUE, true);
  }
  get uniqueHigh(): number {
    return this.view.getUint32(this.#headerStart + IN_HEADER.UNIQUE + 4, true);
  }

  /** Thread id of the caller in the daemon's pid namespace; 0 if it has none there. */
  get pid(): number {
    return this.view.getUint32(this.#headerStart + IN_HEADER.PID, true);
  }

  /** A 32-bit field of the fixed arguments. */
  u32(field: number): number {
    return this.view.getUint32(this.#argumentsStart + field, true);
  }

  /** A 64-bit field of the fixed arguments; exact below 2^53. */
  u64(field: number): number {
    return this.#u64(this.#argumentsStart + field);
  }

  /** Start in `bytes` of what follows the fixed arguments (a name, ioctl input). */
  get payloadStart(): number {
    return this.#payloadStart;
  }

  /** Length of the NUL-terminated name that is the payload, without the NUL; -1 if there is none. */
  get nameLength(): number {
    const length = this.#end - this.#payloadStart - 1;
    if (length < 0 || this.bytes[this.#end - 1] !== 0) return -1;
    return length;
  }

  /** Bytes of the fixed arguments and payload together. */
  get bodyLength(): number {
    return this.#end - this.#argumentsStart;
  }

  #u64(at: number): number {
    return this.view.getUint32(at, true) + this.view.getUint32(at + 4, true) * TWO_POW_32;
  }
}
