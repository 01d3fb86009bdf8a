// What the reader of dumps accepts, and how it refuses the rest: with line, field and reason.

import { describe, expect, it } from 'vitest';
import {
  DumpReader,
  readDump,
  type ReadDumpOptions,
  readDumpStream,
  writeDump,
} from '../../../src/dump/index.ts';
import { DumpError, TreeError } from '../../../src/errors.ts';
import { writeImage } from '../../../src/image-writer/index.ts';
import { Random, randomTree, toDumpText } from '../../support/writer-generator.ts';

const ROOT = '/ 4096 40755 2 0 0 0 0.0 - - -';
const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');
const normal = (text: string, options?: ReadDumpOptions): string =>
  Buffer.from(writeDump(readDump(bytes(text), options))).toString('latin1');
/** The second line as it is written again. */
const line = (text: string): string => normal(`${ROOT}\n${text}\n`).split('\n')[1] ?? '';

function refusal(text: string, options?: ReadDumpOptions): string {
  try {
    readDump(bytes(text), options);
  } catch (error) {
    expect(error).toBeInstanceOf(DumpError);
    const { message, line: lineNumber, field, code } = error as DumpError;
    expect(code).toBe('CFS_BAD_DUMP');
    expect(message.startsWith(`line ${lineNumber}: `)).toBe(true);
    if (field !== undefined) expect(message).toContain(`(${field})`);
    expect(message).toMatch(/^[ -~]+$/);
    return message;
  }
  return 'nothing was refused';
}

const hex = 'ab'.repeat(32);

describe('a line is accepted', () => {
  const rows: [title: string, text: string, written?: string][] = [
    ['without a slash in front', 'a 0 100644 1 0 0 0 0.0 - - -', '/a 0 100644 1 0 0 0 0.0 - - -'],
    ['with more slashes', '//a 0 100644 1 0 0 0 0.0 - - -', '/a 0 100644 1 0 0 0 0.0 - - -'],
    ['with an escaped slash', '\\x2fa 0 100644 1 0 0 0 0.0 - - -', '/a 0 100644 1 0 0 0 0.0 - - -'],
    [
      'with raw bytes',
      '/\x01\xff 0 100644 1 0 0 0 0.0 - - -',
      '/\\x01\\xff 0 100644 1 0 0 0 0.0 - - -',
    ],
    [
      'with signs and zeros',
      '/a +0 0100644 01 -1 +5 0 -5.007 - - -',
      '/a 0 100644 1 4294967295 5 0 -5.7 - - -',
    ],
    [
      'with numbers above their width',
      '/a 0 40000100644 4294967297 4294967296 5 0 0.4294967301 - - -',
      '/a 0 100644 1 0 5 0 0.5 - - -',
    ],
    [
      'with enormous numbers',
      '/a 99999999999999999999 20644 99999999999999999999 0 0 1 99999999999999999999.0 - - -',
      '/a 18446744073709551615 20644 4294967295 0 0 1 -1.0 - - -',
    ],
    [
      'with blanks in numbers',
      '/a \t0 100644 \v1 0 0 0 \f0.0 - - -',
      '/a 0 100644 1 0 0 0 0.0 - - -',
    ],
    ['with nanoseconds above a second', '/a 0 100644 1 0 0 0 1.2000000000 - - -'],
    ['with the smallest time', '/a 0 100644 1 0 0 0 -9223372036854775808.0 - - -'],
    ['with a space at its end', '/a 0 100644 1 0 0 0 0.0 - - - ', '/a 0 100644 1 0 0 0 0.0 - - -'],
    [
      'with a space behind its attributes',
      '/a 0 100644 1 0 0 0 0.0 - - - user.a=b ',
      '/a 0 100644 1 0 0 0 0.0 - - - user.a=b',
    ],
    [
      'with an attribute given twice',
      '/a 0 100644 1 0 0 0 0.0 - - - user.a=1 user.b=2 user.a=3',
      '/a 0 100644 1 0 0 0 0.0 - - - user.a=3 user.b=2',
    ],
    [
      'with = in names and values',
      '/a 0 100644 1 0 0 0 0.0 - - - user.\\x3d=a=b',
      '/a 0 100644 1 0 0 0 0.0 - - - user.\\x3d=a\\x3db',
    ],
    ['with an empty value', '/a 0 100644 1 0 0 0 0.0 - - - user.a='],
    ['with a dash as content', '/a 1 100644 1 0 0 0 0.0 - \\x2d -'],
    ['with a dash as target', '/a 1 120777 1 0 0 0 0.0 \\x2d - -'],
    [
      'with every escape',
      '/a 6 100644 1 0 0 0 0.0 - \\\\\\n\\r\\t\\xFf\\x00 -',
      '/a 6 100644 1 0 0 0 0.0 - \\\\\\n\\r\\t\\xff\\x00 -',
    ],
    [
      'with an upper-case digest',
      `/a 5 100644 1 0 0 0 0.0 - - ${hex.toUpperCase()}`,
      `/a 5 100644 1 0 0 0 0.0 - - ${hex}`,
    ],
    ['with an object path that is no digest', '/a 5 100644 1 0 0 0 0.0 x/y - -'],
    ['with an upper-case object path', `/a 5 100644 1 0 0 0 0.0 AB/${'AB'.repeat(31)} - -`],
    [
      'with an object path of another object',
      `/a 5 100644 1 0 0 0 0.0 cd/${'cd'.repeat(31)} - ${hex}`,
    ],
    ['with an empty object path', '/a 5 100644 1 0 0 0 0.0  - -', '/a 5 100644 1 0 0 0 0.0 - - -'],
    [
      'with content, whose object does not count',
      `/a 1 100644 1 0 0 0 0.0 x/y x ${hex}`,
      '/a 1 100644 1 0 0 0 0.0 - x -',
    ],
    [
      'empty, whose object does not count',
      `/a 0 100644 1 0 0 0 0.0 x/y - ${hex}`,
      '/a 0 100644 1 0 0 0 0.0 - - -',
    ],
    [
      'with a digest that does not count',
      '/a 0 100644 1 0 0 0 0.0 - - garbage',
      '/a 0 100644 1 0 0 0 0.0 - - -',
    ],
    ['with content on a fifo', '/a 1 10644 1 0 0 0 0.0 - x -', '/a 1 10644 1 0 0 0 0.0 - - -'],
    ['with rdev on a file', '/a 0 100644 1 0 0 7 0.0 - - -', '/a 0 100644 1 0 0 0 0.0 - - -'],
    ['with a wrong symlink size', '/a 9 120777 1 0 0 0 0.0 t - -', '/a 1 120777 1 0 0 0 0.0 t - -'],
  ];
  it.each(rows)('%s', (_, text, written = text) => {
    expect(line(text)).toBe(written);
  });

  it('without a newline at the end', () => {
    expect(normal(`${ROOT}\n/a 0 100644 1 0 0 0 0.0 - - -`)).toBe(
      `${ROOT}\n/a 0 100644 1 0 0 0 0.0 - - -\n`,
    );
  });

  it('as a hard link with nothing but path, mode and target', () => {
    const file = '/f 0 100644 3 0 0 0 0.0 - - - user.a=1';
    expect(
      normal(`${ROOT}\n/a x @100000 ? ? ? ? ? //b\n/b - @120777 - - - - - f/\n${file}\n`),
    ).toBe(
      [
        ROOT,
        '/a 0 @100644 3 0 0 0 0.0 /f - - user.a=1',
        '/b 0 @100644 3 0 0 0 0.0 /f - - user.a=1',
        file,
        '',
      ].join('\n'),
    );
  });
});

describe('a dump is refused', () => {
  const second = (text: string): string => `${ROOT}\n${text}\n`;
  const rows: [title: string, text: string, message: string][] = [
    ['that is empty', '', 'line 1: the dump is empty, its first line must be the root'],
    ['with a blank line', second(''), 'line 2: field 1 (path): is empty'],
    ['with a raw NUL', second('/a\0b 0 100644 1 0 0 0 0.0 - - -'), 'line 2: a NUL at byte 2'],
    [
      'with an escaped NUL in a path',
      second('/a\\x00 0 100644 1 0 0 0 0.0 - - -'),
      'line 2: field 1 (path): contains a NUL',
    ],
    [
      'with an escaped NUL in a target',
      second('/a 1 120777 1 0 0 0 0.0 t\\x00 - -'),
      'line 2: field 9 (payload): contains a NUL',
    ],
    [
      'with an escaped NUL in a name',
      second('/a 0 100644 1 0 0 0 0.0 - - - u\\x00=1'),
      'line 2: field 12 (xattrs): contains a NUL',
    ],
    [
      'without a root',
      '/a 0 100644 1 0 0 0 0.0 - - -\n',
      'line 1: field 1 (path): the first line must be the root',
    ],
    ['with two roots', second(ROOT), 'line 2: field 1 (path): the root is there twice'],
    [
      'with a file as root',
      '/ 0 100644 1 0 0 0 0.0 - - -\n',
      'line 1: field 3 (mode): the root must be a directory',
    ],
    [
      'without a directory',
      second('/a/b 0 100644 1 0 0 0 0.0 - - -'),
      'line 2: field 1 (path): its directory is missing',
    ],
    [
      'with an entry of a file',
      `${second('/a 0 100644 1 0 0 0 0.0 - - -')}/a/b 0 100644 1 0 0 0 0.0 - - -\n`,
      'line 3: field 1 (path): lies in something that is not a directory',
    ],
    [
      'with a path twice',
      `${second('/a 0 100644 1 0 0 0 0.0 - - -')}/a 0 100644 1 0 0 0 0.0 - - -\n`,
      'line 3: field 1 (path): is there twice',
    ],
    [
      'with a slash at the end',
      second('/a/ 0 100644 1 0 0 0 0.0 - - -'),
      'line 2: field 1 (path): its directory is missing',
    ],
    [
      'with nothing but slashes',
      second('// 0 40755 1 0 0 0 0.0 - - -'),
      'line 2: field 1 (path): ends with a slash',
    ],
    [
      'with a dot',
      second('/. 0 100644 1 0 0 0 0.0 - - -'),
      'line 2: field 1 (path): its last name is . or ..',
    ],
    [
      'with two dots',
      second('/.. 0 100644 1 0 0 0 0.0 - - -'),
      'line 2: field 1 (path): its last name is . or ..',
    ],
    [
      'with a name of 256 bytes',
      second(`/${'n'.repeat(256)} 0 100644 1 0 0 0 0.0 - - -`),
      'line 2: field 1 (path): its last name has 256 bytes, more than 255',
    ],
    [
      'with a bad escape',
      second('/\\y 0 100644 1 0 0 0 0.0 - - -'),
      'line 2: field 1 (path): has a backslash before a character that is not one of \\ n r t x',
    ],
    [
      'with half an escape',
      second('/\\ 0 100644 1 0 0 0 0.0 - - -'),
      'line 2: field 1 (path): has a backslash with nothing after it',
    ],
    [
      'with a short hex escape',
      second('/\\x1 0 100644 1 0 0 0 0.0 - - -'),
      'line 2: field 1 (path): has a \\x without two hex digits',
    ],
    [
      'with a wrong hex escape',
      second('/\\x1g 0 100644 1 0 0 0 0.0 - - -'),
      'line 2: field 1 (path): has a \\x with characters that are not hex digits',
    ],
    [
      'with a decimal mode',
      second('/a 0 100689 1 0 0 0 0.0 - - -'),
      'line 2: field 3 (mode): "100689" is not an octal number',
    ],
    [
      'with a mode without type',
      second('/a 0 644 1 0 0 0 0.0 - - -'),
      'line 2: field 3 (mode): 644 has no valid file type',
    ],
    [
      'with a size that is none',
      second('/a 0x10 100644 1 0 0 0 0.0 - - -'),
      'line 2: field 2 (size): "0x10" is not a decimal number',
    ],
    [
      'with an nlink that is none',
      second('/a 0 100644 5x 0 0 0 0.0 - - -'),
      'line 2: field 4 (nlink): "5x" is not a decimal number',
    ],
    [
      'with a uid that is none',
      second('/a 0 100644 1 abc 0 0 0.0 - - -'),
      'line 2: field 5 (uid): "abc" is not a decimal number',
    ],
    [
      'with a gid that is none, whatever the uid',
      second('/a 0 100644 1 5 "\xff 0 0.0 - - -'),
      'line 2: field 6 (gid): "\\x22\\xff" is not a decimal number',
    ],
    [
      'with an rdev that is none',
      second('/a 0 100644 1 5 0 - 0.0 - - -'),
      'line 2: field 7 (rdev): "-" is not a decimal number',
    ],
    [
      'with an empty number',
      second('/a  100644 1 0 0 0 0.0 - - -'),
      'line 2: field 2 (size): "" is not a decimal number',
    ],
    [
      'with too few fields',
      second('/a 0 100644 1 0'),
      'line 2: field 6 (gid): "" is not a decimal number',
    ],
    [
      'with whole seconds',
      second('/a 0 100644 1 0 0 0 5 - - -'),
      'line 2: field 8 (mtime): "5" is not SECONDS.NANOSECONDS',
    ],
    [
      'without nanoseconds',
      second('/a 0 100644 1 0 0 0 1. - - -'),
      'line 2: field 8 (mtime): "1." is not a decimal number',
    ],
    [
      'with two points',
      second('/a 0 100644 1 0 0 0 1.2.3 - - -'),
      'line 2: field 8 (mtime): "1.2.3" is not a decimal number',
    ],
    [
      'with a long wrong number',
      second(`/a ${'9'.repeat(80)}x 100644 1 0 0 0 0.0 - - -`),
      `line 2: field 2 (size): "${'9'.repeat(60)}..." is not a decimal number`,
    ],
    [
      'with a symlink to nothing',
      second('/a 0 120777 1 0 0 0 0.0 - - -'),
      'line 2: field 9 (payload): a symlink needs a target',
    ],
    [
      'with an empty target',
      second('/a 0 120777 1 0 0 0 0.0  - -'),
      'line 2: field 9 (payload): a symlink target has 1 to 4095 bytes, not 0',
    ],
    [
      'with a target of 4096 bytes',
      second(`/a 0 120777 1 0 0 0 0.0 ${'t'.repeat(4096)} - -`),
      'line 2: field 9 (payload): a symlink target has 1 to 4095 bytes, not 4096',
    ],
    [
      'with an object path of 4096 bytes',
      second(`/a 1 100644 1 0 0 0 0.0 ${'t'.repeat(4096)} - -`),
      'line 2: field 9 (payload): has 4096 bytes, more than 4095',
    ],
    [
      'with a content of another size',
      second('/a 4 100644 1 0 0 0 0.0 - abc -'),
      'line 2: field 10 (content): has 3 bytes, which is not what field 2 (size) says',
    ],
    [
      'with a content of 5001 bytes',
      second(`/a 5001 100644 1 0 0 0 0.0 - ${'c'.repeat(5001)} -`),
      'line 2: field 10 (content): has 5001 bytes, more than 5000',
    ],
    [
      'with a short digest',
      second(`/a 4 100644 1 0 0 0 0.0 - - ${hex.slice(2)}`),
      'line 2: field 11 (digest): is not 64 hex digits',
    ],
    [
      'with a CR behind the digest',
      second(`/a 4 100644 1 0 0 0 0.0 - - ${hex}\r`),
      'line 2: field 11 (digest): is not 64 hex digits',
    ],
    [
      'with a digest that is none',
      second(`/a 4 100644 1 0 0 0 0.0 - - ${hex.slice(1)}g`),
      'line 2: field 11 (digest): is not 64 hex digits',
    ],
    [
      'with an attribute without =',
      second('/a 0 100644 1 0 0 0 0.0 - - - user.a=1 user.b'),
      'line 2: field 13 (xattrs): an attribute needs a = between name and value',
    ],
    [
      'with two spaces',
      second('/a 0 100644 1 0 0 0 0.0 - - -  user.b=1'),
      'line 2: field 12 (xattrs): an attribute needs a = between name and value',
    ],
    [
      'with an attribute without name',
      second('/a 0 100644 1 0 0 0 0.0 - - - =1'),
      'line 2: field 12 (xattrs): an attribute name has 1 to 255 bytes, not 0',
    ],
    [
      'with a name of 256 bytes',
      second(`/a 0 100644 1 0 0 0 0.0 - - - ${'k'.repeat(256)}=1`),
      'line 2: field 12 (xattrs): an attribute name has 1 to 255 bytes, not 256',
    ],
    [
      'with too much of attributes',
      second(`/a 0 100644 1 0 0 0 0.0 - - - user.a=${'v'.repeat(32743)}`),
      'line 2: field 12 (xattrs): the attributes of a file exceed 32767 bytes',
    ],
    [
      'with 65,536 bytes of attributes',
      second(`/a 0 100644 1 0 0 0 0.0 - - - ${'v'.repeat(65536)}`),
      'line 2: field 12 (xattrs): more than 65535 bytes of attributes',
    ],
    [
      'with a link to nothing',
      second('/a 0 @100644 1 0 0 0 0.0 - - -'),
      'line 2: field 9 (payload): a hard link needs the path of its target',
    ],
    [
      'with a link to what is missing',
      second('/a 0 @100644 1 0 0 0 0.0 /b - -'),
      'line 2: field 9 (payload): there is nothing at "/b" to link to',
    ],
    [
      'with a link to itself',
      second('/a 0 @100644 1 0 0 0 0.0 /a - -'),
      'line 2: field 9 (payload): a hard link to itself',
    ],
    [
      'with a link that is a directory',
      second('/a 0 @40755 1 0 0 0 0.0 / - -'),
      'line 2: field 3 (mode): a directory cannot be a hard link',
    ],
    [
      'with a link to a directory',
      second('/a 0 @100644 1 0 0 0 0.0 / - -'),
      'line 2: field 9 (payload): a hard link to a directory',
    ],
    [
      'with links in a circle',
      `${second('/b 0 @100644 1 0 0 0 0.0 /c - -')}/c 0 @100644 1 0 0 0 0.0 /b - -\n/a 0 @100644 1 0 0 0 0.0 /b - -\n`,
      'line 2: field 9 (payload): hard links that form a circle',
    ],
    [
      'with an entry of a hard link',
      `${second('/b 0 @100644 1 0 0 0 0.0 /c - -')}/b/c 0 100644 1 0 0 0 0.0 - - -\n`,
      'line 3: field 1 (path): lies in something that is not a directory',
    ],
  ];
  it.each(rows)('%s', (_, text, message) => {
    expect(refusal(text)).toBe(message);
  });
});

describe('strict reading refuses more', () => {
  const rows: [title: string, text: string, message: string][] = [
    ['no newline at the end', ROOT, 'line 1: the newline at its end is missing'],
    [
      'rdev on a file',
      `${ROOT}\n/a 0 100644 1 0 0 7 0.0 - - -\n`,
      'line 2: field 7 (rdev): is not 0 on a non-device',
    ],
    [
      'a wrong symlink size',
      `${ROOT}\n/a 9 120777 1 0 0 0 0.0 t - -\n`,
      'line 2: field 2 (size): must be 1, the length of the target',
    ],
    [
      'a symlink with content',
      `${ROOT}\n/a 1 120777 1 0 0 0 0.0 t c -\n`,
      'line 2: field 10 (content): a symlink has no content',
    ],
  ];
  it.each(rows)('%s', (_, text, message) => {
    expect(refusal(text)).toBe('nothing was refused');
    expect(refusal(text, { strict: true })).toBe(message);
  });

  it('but not what it writes itself', () => {
    const text = writeDump(readDump(toDumpText(randomTree(3, { entries: 300, whiteouts: true }))));
    expect(refusal(Buffer.from(text).toString('latin1'), { strict: true })).toBe(
      'nothing was refused',
    );
  });
});

describe('pieces of any size give the same tree', () => {
  const text = toDumpText(randomTree(5, { entries: 200, extremes: true, hardLinks: true }));
  const image = writeImage(readDump(text));
  it.each([1, 7, 100, 4096, 1 << 20])('%i bytes', async (size) => {
    const chunks: Uint8Array[] = [];
    for (let at = 0; at < text.length; at += size) chunks.push(text.subarray(at, at + size));
    expect(Buffer.compare(writeImage(await readDumpStream(chunks)), image)).toBe(0);
  });

  it('from an array that is used again', () => {
    const reader = new DumpReader();
    const piece = new Uint8Array(64);
    for (let at = 0; at < text.length; at += piece.length) {
      const part = text.subarray(at, at + piece.length);
      piece.set(part);
      reader.push(piece.subarray(0, part.length));
    }
    expect(Buffer.compare(writeImage(reader.finish()), image)).toBe(0);
  });

  it('and the same errors', async () => {
    const bad = bytes(`${ROOT}\n/a 0 100644 1 0 0 0 0.0 - - -\n/b 0 100644 1 0 x 0 0.0 - - -\n`);
    await expect(readDumpStream(Array.from(bad, (byte) => Uint8Array.of(byte)))).rejects.toThrow(
      'line 3: field 6 (gid): "x" is not a decimal number',
    );
  });
});

describe('a damaged text', () => {
  it('is a tree that can be written, or refused with its line', () => {
    const random = new Random(11);
    const options = { entries: 60, extremes: true, hardLinks: true, whiteouts: true };
    const original = toDumpText(randomTree(9, options));
    let refusals = 0;
    for (let round = 0; round < 1500; round++) {
      const text = Buffer.from(original);
      for (let i = random.below(3); i >= 0; i--) {
        const special = Buffer.from(' \n\\@-=/.0\0x');
        text[random.below(text.length)] = random.chance(70)
          ? (special[random.below(special.length)] as number)
          : random.below(256);
      }
      try {
        writeImage(readDump(text));
      } catch (error) {
        if (!(error instanceof DumpError) && !(error instanceof TreeError)) throw error;
        refusals++;
      }
    }
    expect(refusals).toBeGreaterThan(500);
  });

  it('of one line without an end takes no more than its length', () => {
    const reader = new DumpReader();
    const piece = Buffer.alloc(1000, 'x');
    for (let i = 0; i < 1000; i++) reader.push(piece);
    expect(() => reader.finish()).toThrow('line 1: field 3 (mode): "" is not an octal number');
  });
});
