// The dump of images, in the form of the reference's composefs-info.

import { describe, expect, it } from 'vitest';
import { dumpImage, dumpImageChunks, readDump, writeDump } from '../../../src/dump/index.ts';
import { ImageError } from '../../../src/errors.ts';
import { Image } from '../../../src/image-reader/index.ts';
import { writeImage } from '../../../src/image-writer/index.ts';
import { sha256 } from '../../support/writer-pins.ts';

const digest = `5d41402abc4b2a76b9719d911017c592${'0'.repeat(30)}aa`;
const objectPath = `5d/${digest.slice(2)}`;

/** A tree with a line of every kind, as a person would write it. */
const source = String.raw`/ 4096 40755 4 0 0 0 1700000000.5 - - - user.note=root
/a\x20dir 0 40755 2 0 0 0 1700000000.5 - - -
/a\x20dir/sp\x20ace\x09tab=eq\\bs\x7f\xc3\xa9 3 100644 1 0 0 0 1700000000.5 - a=b -
/bin 0 40755 2 0 0 0 1700000000.5 - - -
/bin/tool 70 100755 2 0 0 0 1700000001.0 ${objectPath} - ${digest} security.capability=\x01\x00\x00\x02 user.k\x3d1=v\x3d2
/dash 1 100644 1 0 0 0 1700000000.5 - \x2d -
/dev 0 20600 1 0 0 259 1700000000.5 - - -
/gone 0 20644 1 0 0 0 1700000000.5 - - -
/link 6 120777 1 0 0 0 1700000000.5 a\x20dir - -
/nodigest 100 100644 1 0 0 0 1700000000.5 some/where - -
/nopayload 100 100644 1 0 0 0 1700000000.5 - - -
/tool2 0 @100755 2 0 0 0 0.0 /bin/tool - -
/zero 0 100644 1 0 0 0 1700000000.5 - - - user.empty= user.dash=-
`;

const dumped = String.raw`/ 4096 40755 4 0 0 0 1700000000.5 - - - trusted.overlay.opaque=x user.note=root user.overlay.opaque=x
/a\x20dir 58 40755 2 0 0 0 1700000000.5 - - -
/a\x20dir/sp\x20ace\ttab=eq\\bs\x7f\xc3\xa9 3 100644 1 0 0 0 1700000000.5 - a=b -
/bin 43 40755 2 0 0 0 1700000000.5 - - -
/bin/tool 70 100755 2 0 0 0 1700000001.0 ${objectPath} - ${digest} security.capability=\x01\x00\x00\x02 user.k\x3d1=v\x3d2
/dash 1 100644 1 0 0 0 1700000000.5 - \x2d -
/dev 0 20600 1 0 0 259 1700000000.5 - - -
/gone 0 20644 1 0 0 0 1700000000.5 - - -
/link 5 120777 1 0 0 0 1700000000.5 a\x20dir - -
/nodigest 100 100644 1 0 0 0 1700000000.5 some/where - -
/nopayload 100 100644 1 0 0 0 1700000000.5 - - -
/tool2 70 @100755 2 0 0 0 1700000001.0 /bin/tool - ${digest} security.capability=\x01\x00\x00\x02 user.k\x3d1=v\x3d2
/zero 0 100644 1 0 0 0 1700000000.5 - - - user.dash=- user.empty=
`;

const image = writeImage(readDump(Buffer.from(source)));
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
/** Lines of a dump whose path begins so, without the line of the root. */
const dumpOf = (...lines: string[]): string[] => {
  const root = '/ 4096 40755 2 0 0 0 0.0 - - -';
  const tree = readDump(Buffer.from([root, ...lines, ''].join('\n'), 'latin1'));
  return text(dumpImage(Image.open(writeImage(tree))))
    .trimEnd()
    .split('\n')
    .slice(1);
};

describe('the dump of an image', () => {
  it('has every line in the form of the reference', () => {
    expect(sha256(image)).toBe('a1147d7c777023aa267b6e6064a5f14b436a803dc767582da9595bf3fed80109');
    expect(text(dumpImage(Image.open(image)))).toBe(dumped);
  });

  it('makes the same image', () => {
    expect(Buffer.compare(writeImage(readDump(Buffer.from(dumped))), image)).toBe(0);
  });

  it('can be limited to entries of the root', () => {
    const lines = dumped.split('\n');
    const expected = [lines[0], lines[3], lines[4], lines[12], ''].join('\n');
    const filter = ['bin', Buffer.from('zero'), 'absent'];
    expect(text(dumpImage(Image.open(image), { filter }))).toBe(expected);
  });

  it('makes the next name of a file its first when the filter leaves that out', () => {
    const [, line = ''] = text(dumpImage(Image.open(image), { filter: ['tool2'] })).split('\n');
    expect(line.startsWith(`/tool2 70 100755 2 0 0 0 1700000001.0 ${objectPath} - `)).toBe(true);
  });

  it('shows the directory entry that comes first, not the line that did', () => {
    expect(
      dumpOf(
        '/z 1 100644 3 0 0 0 0.0 - x -',
        '/b 0 @100644 3 0 0 0 0.0 /z - -',
        '/a 0 @100644 3 0 0 0 0.0 /b - -',
      ),
    ).toEqual([
      '/a 1 100644 3 0 0 0 0.0 - x -',
      '/b 1 @100644 3 0 0 0 0.0 /a x -',
      '/z 1 @100644 3 0 0 0 0.0 /a x -',
    ]);
  });

  const rows: [title: string, line: string][] = [
    ['times before 1970', '/a 0 100644 1 0 0 0 -7.999999999 - - -'],
    ['extreme times', '/a 0 100644 1 0 0 0 -9223372036854775808.4294967295 - - -'],
    ['large numbers', '/a 9007199254740992 100644 70000 4294967295 4294967294 0 0.0 - - -'],
    ['devices', '/a 0 60660 1 0 6 4294967295 0.0 - - -'],
    ['contents in a block and a tail', `/a 4500 100644 1 0 0 0 0.0 - ${'c'.repeat(4500)} -`],
    ['targets in a block', `/a 4095 120777 1 0 0 0 0.0 ${'t'.repeat(4095)} - -`],
    ['special modes', '/a 0 107777 1 0 0 0 0.0 - - -'],
    [
      'escaped overlay attributes',
      '/a 0 100644 1 0 0 0 0.0 - - - trusted.overlay.overlay.x=1 trusted.overlay.redirect=y user.overlay.opaque=z',
    ],
    ['whiteouts with attributes', '/a 0 20400 1 5 6 0 7.0 - - - user.a=b'],
  ];
  it.each(rows)('shows %s', (_, line) => {
    expect(dumpOf(line)).toEqual([line]);
  });

  it('drops the markers of whiteouts that the source already had', () => {
    expect(
      dumpOf('/a 1 100644 1 0 0 0 0.0 - x - trusted.overlay.whiteouts= user.overlay.whiteout='),
    ).toEqual(['/a 1 100644 1 0 0 0 0.0 - x -']);
  });

  it('takes an empty file with the marker for a whiteout', () => {
    expect(dumpOf('/a 0 100644 1 0 0 0 0.0 - - - trusted.overlay.whiteout=')).toEqual([
      '/a 0 20644 1 0 0 0 0.0 - - -',
    ]);
  });

  it('comes in pieces', () => {
    const lines = Array.from({ length: 5000 }, (_, i) => `/f${i} 0 100644 1 0 0 0 0.0 - - -`);
    const big = Image.open(
      writeImage(readDump(Buffer.from(['/ 0 40755 2 0 0 0 0.0 - - -', ...lines, ''].join('\n')))),
    );
    const chunks = [...dumpImageChunks(big)];
    expect(chunks.length).toBeGreaterThan(2);
    expect(Buffer.compare(Buffer.concat(chunks), dumpImage(big))).toBe(0);
  });
});

describe('damage', () => {
  it('ends the dump with an ImageError', () => {
    const rows: [offset: number, value: number][] = [];
    const broken = (at: number): Uint8Array => {
      const copy = image.slice();
      copy[at] = 0xff;
      return copy;
    };
    let failures = 0;
    for (let at = 1152; at < image.length; at += 97) {
      try {
        dumpImage(Image.open(broken(at)));
      } catch (error) {
        expect(error, `${rows.length} ${at}`).toBeInstanceOf(ImageError);
        failures++;
      }
    }
    expect(failures).toBeGreaterThan(0);
  });
});

describe('the dump of a tree', () => {
  it('keeps sizes of directories and the place of hard links', () => {
    const lines = [
      '/ 123 40755 2 0 0 0 0.0 - - -',
      '/a 1 @100644 3 0 0 0 0.0 /z x -',
      '/z 1 100644 3 0 0 0 0.0 - x -',
      '',
    ];
    expect(text(writeDump(readDump(Buffer.from(lines.join('\n')))))).toBe(lines.join('\n'));
  });
});
