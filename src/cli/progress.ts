// One line on a terminal that is overwritten while something takes long; nothing on a pipe.

/** Between two updates, so that a terminal over a slow line is not the bottleneck. */
const INTERVAL_MS = 100;

export class ProgressLine {
  readonly #isShown = process.stderr.isTTY;
  #lastAt = 0;
  #isDirty = false;

  /** `text` is only made when it will be shown. */
  update(text: () => string): void {
    if (!this.#isShown) return;
    const now = performance.now();
    if (now - this.#lastAt < INTERVAL_MS) return;
    this.#lastAt = now;
    this.#isDirty = true;
    process.stderr.write(`\r\u001b[K${text()}`);
  }

  /** Takes the line away. */
  clear(): void {
    if (this.#isDirty) process.stderr.write('\r\u001b[K');
    this.#isDirty = false;
  }
}
