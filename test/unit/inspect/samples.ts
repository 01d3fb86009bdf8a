// Images from dump texts, and what the functions under test report of an image.

import { readDump } from '../../../src/dump/index.ts';
import { Image } from '../../../src/image-reader/index.ts';
import { writeImage } from '../../../src/image-writer/index.ts';
import { checkStructure } from '../../../src/inspect/check-structure.ts';
import { describeProblem } from '../../../src/inspect/problem.ts';

/** The example of the specification's section on composefs-info. */
export const EXAMPLE_OBJECT: string =
  '5d/41402abc4b2a76b9719d911017c592000000000000000000000000000000aa';
const DIGEST = EXAMPLE_OBJECT.replace('/', '');
export const EXAMPLE_DIGEST: string =
  '70f10ffd65c40986660fcfc6064b3f89b496be25e4790ccc4e4cafbe19414c32';
const XATTRS = String.raw`security.capability=\x01\x00\x00\x02 user.k\x3d1=v\x3d2`;

export const EXAMPLE_SOURCE: string = String.raw`/ 4096 40755 4 0 0 0 1700000000.5 - - - user.note=root
/a\x20dir 0 40755 2 0 0 0 1700000000.5 - - -
/a\x20dir/sp\x20ace\x09tab=eq\\bs\x7f\xc3\xa9 3 100644 1 0 0 0 1700000000.5 - a=b -
/bin 0 40755 2 0 0 0 1700000000.5 - - -
/bin/tool 70 100755 2 0 0 0 1700000001.0 ${EXAMPLE_OBJECT} - ${DIGEST} ${XATTRS}
/dash 1 100644 1 0 0 0 1700000000.5 - \x2d -
/dev 0 20600 1 0 0 259 1700000000.5 - - -
/gone 0 20644 1 0 0 0 1700000000.5 - - -
/link 6 120777 1 0 0 0 1700000000.5 a\x20dir - -
/nodigest 100 100644 1 0 0 0 1700000000.5 some/where - -
/nopayload 100 100644 1 0 0 0 1700000000.5 - - -
/tool2 0 @100755 2 0 0 0 0.0 /bin/tool - -
/zero 0 100644 1 0 0 0 1700000000.5 - - - user.empty= user.dash=-
`;

const ROOT_LINE =
  '/ 4096 40755 4 0 0 0 1700000000.5 - - - ' +
  'trusted.overlay.opaque=x user.note=root user.overlay.opaque=x';
const BIN_LINES = `/bin 43 40755 2 0 0 0 1700000000.5 - - -
/bin/tool 70 100755 2 0 0 0 1700000001.0 ${EXAMPLE_OBJECT} - ${DIGEST} ${XATTRS}`;
const ZERO_LINE = '/zero 0 100644 1 0 0 0 1700000000.5 - - - user.dash=- user.empty=';

export const EXAMPLE_DUMP: string = String.raw`${ROOT_LINE}
/a\x20dir 58 40755 2 0 0 0 1700000000.5 - - -
/a\x20dir/sp\x20ace\ttab=eq\\bs\x7f\xc3\xa9 3 100644 1 0 0 0 1700000000.5 - a=b -
${BIN_LINES}
/dash 1 100644 1 0 0 0 1700000000.5 - \x2d -
/dev 0 20600 1 0 0 259 1700000000.5 - - -
/gone 0 20644 1 0 0 0 1700000000.5 - - -
/link 5 120777 1 0 0 0 1700000000.5 a\x20dir - -
/nodigest 100 100644 1 0 0 0 1700000000.5 some/where - -
/nopayload 100 100644 1 0 0 0 1700000000.5 - - -
/tool2 70 @100755 2 0 0 0 1700000001.0 /bin/tool - ${DIGEST} ${XATTRS}
${ZERO_LINE}
`;
export const EXAMPLE_FILTERED: string = `${ROOT_LINE}\n${BIN_LINES}\n${ZERO_LINE}\n`;

export const EXAMPLE_LS: string = [
  '/a dir/\t',
  String.raw`/a dir/sp ace\ttab=eq\\bs\x7f\xc3\xa9`,
  '/bin/\t',
  `/bin/tool\t@ ${EXAMPLE_OBJECT}`,
  '/dash',
  '/dev',
  '/gone',
  String.raw`/link	-> a\x20dir`,
  '/nodigest\t@ some/where',
  '/nopayload',
  '/tool2',
  '/zero',
  '',
].join('\n');

export const ROOT: string = '/ 0 40755 2 0 0 0 0.0 - - -';

export function imageBytes(dump: string, versions?: { minVersion: number }): Uint8Array {
  return writeImage(readDump(Buffer.from(dump, 'latin1')), versions);
}

export function imageOf(dump: string): Image {
  return Image.open(imageBytes(dump));
}

/** The lines that a check of the structure prints. */
export function structureOf(image: Image): string[] {
  const lines: string[] = [];
  checkStructure(image, (problem) => lines.push(describeProblem(problem).trimEnd()));
  return lines;
}
