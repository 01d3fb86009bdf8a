// Reads files for attacks.mjs in a process of its own: one that waits for ever in a read can be
// killed, the test cannot. One JSON request per line, one JSON answer per line.

import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** Node has no name for this one. */
const EUCLEAN = -117;
const CHUNK = 64 * 1024;
const kept = new Map();

const codeOf = ({ errno, code }) => (errno === EUCLEAN ? 'EUCLEAN' : code);

/** What open(2) and read(2) say, and what was read before they said it. */
function read(fd) {
  const hash = createHash('sha256');
  const chunk = Buffer.alloc(CHUNK);
  for (let at = 0; ;) {
    let count;
    try {
      count = readSync(fd, chunk, 0, CHUNK, at);
    } catch (error) {
      return { readError: codeOf(error), length: at, sha256: hash.digest('hex') };
    }
    if (count === 0) return { length: at, sha256: hash.digest('hex') };
    hash.update(chunk.subarray(0, count));
    at += count;
  }
}

function visit({ path, keep, kept: isKept }) {
  if (isKept) {
    const fd = kept.get(path);
    kept.delete(path);
    const result = read(fd);
    closeSync(fd);
    return result;
  }
  let fd;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    return { openError: codeOf(error) };
  }
  const result = read(fd);
  if (keep) kept.set(path, fd);
  else closeSync(fd);
  return result;
}

for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(`${JSON.stringify(visit(JSON.parse(line)))}\n`);
