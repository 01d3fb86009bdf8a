// Writes dumps of any length, the same in every run: a system tree in small, with packages of 20
// files, most of them objects with a label, some small enough for the image, some symlinks.

import { createHash } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';

const FILES_PER_FOLDER = 20;
const FOLDERS_PER_GROUP = 64;
const TIME = '1700000000.0';
const FOLDER = `4096 40755 2 0 0 0 ${TIME} - - -`;
const LABEL = 'security.selinux=system_u:object_r:lib_t:s0\\x00';
const CHUNK_LENGTH = 1 << 20;

function fileLine(folder, group, i) {
  if (i % 10 === 9) return `${folder}/link-${i} 12 120777 1 0 0 0 ${TIME} ../some-file - -`;
  if (i % 10 === 8) return `${folder}/small-${i} 8 100644 1 0 0 0 ${TIME} - content! -`;
  const digest = createHash('sha256').update(`${group}/${i}`).digest('hex');
  const object = `${digest.slice(0, 2)}/${digest.slice(2)}`;
  const size = 1000 + i * 37;
  const time = `1700000000.${i}12345`;
  return `${folder}/file-name-${i}.so ${size} 100644 1 0 0 0 ${time} ${object} - ${digest} ${LABEL}`;
}

function* lines() {
  yield `/ ${FOLDER}`;
  for (let k = 0; ; k++) {
    const group = `/group-${Math.floor(k / FOLDERS_PER_GROUP)}`;
    if (k % FOLDERS_PER_GROUP === 0) yield `${group} ${FOLDER}`;
    const folder = `${group}/package-${k}`;
    yield `${folder} ${FOLDER} ${LABEL}`;
    for (let i = 0; i < FILES_PER_FOLDER; i++) yield fileLine(folder, k, i);
  }
}

/** Writes the first `count` lines; 1 is the root alone. */
export function writeDumpOf(count, path) {
  const fd = openSync(path, 'w');
  let text = '';
  let left = count;
  for (const line of lines()) {
    if (left-- === 0) break;
    text += `${line}\n`;
    if (text.length < CHUNK_LENGTH) continue;
    writeSync(fd, text);
    text = '';
  }
  writeSync(fd, text);
  closeSync(fd);
}
