// src/fuse/abi.ts against the C compiler: every layout object, opcode and flag is compared with what
// <linux/fuse.h> of this machine says. What is younger than that header is skipped by name.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import * as abi from '../../src/fuse/abi.ts';
import { describeWith } from '../support/requirements.ts';
import type { Requirement } from '../support/requirements.ts';

const needsFuseHeader: Requirement = {
  what: 'a C compiler (cc) and <linux/fuse.h>',
  isMet: () =>
    spawnSync('cc', ['-fsyntax-only', '-x', 'c', '-'], { input: '#include <linux/fuse.h>\n' })
      .status === 0,
};

type NumberTable = Readonly<Record<string, number>>;

/** The minor protocol version that brought a field or an opcode, where it is past 7.34. */
const broughtBy: NumberTable = {
  'fuse_init_in.flags2': 36,
  'fuse_init_in.unused': 36,
  'fuse_init_out.flags2': 36,
  FUSE_TMPFILE: 37,
  FUSE_STATX: 39,
  'fuse_open_out.backing_id': 40,
  'fuse_init_out.max_stack_depth': 40,
  'fuse_init_out.request_timeout': 43,
  FUSE_COPY_FILE_RANGE_64: 45,
};

const layouts: [string, NumberTable][] = Object.entries(abi).flatMap(([name, value]) => {
  const isLayout = typeof value === 'object' && 'SIZE' in value;
  return isLayout ? [[name, value]] : [];
});

/** SIZE is the structure's; a field called `size` is SIZE_FIELD. */
function fieldName(key: string): string {
  return key === 'SIZE_FIELD' ? 'size' : key.toLowerCase();
}

/** What each name of abi.ts is in C: an expression, and the condition under which it exists. */
const facts = new Map<string, { ours: number; expression: string; condition: string }>();
for (const [name, layout] of layouts) {
  const struct = `fuse_${name.toLowerCase()}`;
  for (const [key, ours] of Object.entries(layout)) {
    const field = `${struct}.${fieldName(key)}`;
    const isSize = key === 'SIZE';
    facts.set(`${name}.${key}`, {
      ours,
      expression: isSize
        ? `sizeof(struct ${struct})`
        : `offsetof(struct ${struct}, ${fieldName(key)})`,
      condition: `FUSE_KERNEL_MINOR_VERSION >= ${isSize ? 0 : (broughtBy[field] ?? 0)}`,
    });
  }
}
for (const [key, ours] of Object.entries(abi.Opcode)) {
  const expression = `FUSE_${key}`;
  const condition = `FUSE_KERNEL_MINOR_VERSION >= ${broughtBy[expression] ?? 0}`;
  facts.set(`Opcode.${key}`, { ours, expression, condition });
}
const { InitFlag, InitFlag2, OpenFlag } = abi;
for (const [name, flags] of Object.entries({ InitFlag, InitFlag2, OpenFlag })) {
  for (const [key, ours] of Object.entries(flags)) {
    const expression = name === 'InitFlag2' ? `${key} >> 32` : key;
    facts.set(`${name}.${key}`, { ours, expression, condition: `defined(${key})` });
  }
}

/** Compiles and runs a program that prints every fact that this machine's header knows. */
function askCompiler(): Map<string, number> {
  const lines = [...facts].map(
    ([name, { expression, condition }]) =>
      `#if ${condition}\n  printf("${name} %llu\\n", (unsigned long long)(${expression}));\n#endif`,
  );
  const source = `#include <stddef.h>
#include <stdio.h>
#include <linux/fuse.h>
int main(void) {
${lines.join('\n')}
  return 0;
}
`;
  const folder = mkdtempSync(join(tmpdir(), 'composefs-abi-'));
  try {
    const program = join(folder, 'abi');
    const compiler = spawnSync('cc', ['-x', 'c', '-o', program, '-'], { input: source });
    if (compiler.status !== 0) throw new Error(`cc: ${String(compiler.stderr)}`);
    const output = spawnSync(program, { encoding: 'utf8' }).stdout.trim().split('\n');
    return new Map(output.map((line) => [line.split(' ')[0]!, Number(line.split(' ')[1])]));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe('the FUSE protocol layouts', () => {
  it('are all found, and no field lies outside its structure', () => {
    expect(layouts.length).toBeGreaterThanOrEqual(24);
    for (const [name, layout] of layouts) {
      for (const [key, offset] of Object.entries(layout)) {
        if (key !== 'SIZE') expect(offset, `${name}.${key}`).toBeLessThan(layout['SIZE']!);
      }
    }
  });
});

describeWith([needsFuseHeader], 'the FUSE protocol in <linux/fuse.h>', () => {
  let known: Map<string, number>;
  beforeAll(() => {
    known = askCompiler();
  });

  it.for([...facts])('has the same %s', ([name, { ours, condition }], { skip }) => {
    const theirs = known.get(name);
    // Only what has a condition may be missing, or a fault of this test would look like a skip.
    if (theirs === undefined) expect(condition).not.toBe('FUSE_KERNEL_MINOR_VERSION >= 0');
    skip(theirs === undefined, 'younger than the header of this machine');
    expect(ours).toBe(theirs);
  });
});
