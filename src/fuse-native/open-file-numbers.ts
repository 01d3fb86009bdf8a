// The numbers by which libfuse knows open files. The package passes them as 32-bit numbers and takes 0
// for "none", so what the core needs (nid and handle) is kept here.

export interface OpenFile {
  nid: number;
  /** The core's. */
  handle: number;
}

export class OpenFileNumbers {
  /** Index is the number; 0 is never given. */
  readonly #files: (OpenFile | undefined)[] = [undefined];
  readonly #free: number[] = [];

  add(file: OpenFile): number {
    const fd = this.#free.pop() ?? this.#files.length;
    this.#files[fd] = file;
    return fd;
  }

  get(fd: number): OpenFile | undefined {
    return this.#files[fd];
  }

  /** What it was, undefined for a number that is not in use. */
  remove(fd: number): OpenFile | undefined {
    const file = this.#files[fd];
    if (file === undefined) return undefined;
    this.#files[fd] = undefined;
    this.#free.push(fd);
    return file;
  }
}
