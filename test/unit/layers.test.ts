// The layer rules of .oxlintrc.json are only worth something if they fire. Each row puts imports
// into a file of that name in a copy of the folder tree and says which of them the linter refuses.

import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const projectRoot = join(import.meta.dirname, '../..');

interface Layer {
  file: string;
  allowed: string[];
  refused: string[];
}

const layers: Layer[] = [
  { file: 'src/errors.ts', allowed: [], refused: ['node:fs', './native.ts'] },
  {
    file: 'src/native.ts',
    allowed: ['./load-addon.ts'],
    refused: ['node:fs', 'node:module', './fuse/abi.ts', 'pino'],
  },
  {
    file: 'src/load-addon.ts',
    allowed: ['./errors.ts', 'node:fs', 'node:module'],
    refused: ['./native.ts', './fuse/abi.ts', 'pino'],
  },
  {
    file: 'src/image-reader/probe.ts',
    allowed: ['./format.ts', '../errors.ts'],
    refused: ['node:fs', '../native.ts', '../fuse/abi.ts', '../objects/opener.ts', 'pino'],
  },
  {
    file: 'src/image-writer/probe.ts',
    allowed: ['./layout.ts', '../errors.ts', '../image-reader/format.ts'],
    refused: ['node:fs', '../native.ts', '../verify/merkle.ts', '../filesystem/x.ts', 'pino'],
  },
  {
    file: 'src/dump/probe.ts',
    allowed: ['../errors.ts', '../image-reader/format.ts', '../image-writer/tree.ts'],
    refused: ['node:fs', '../native.ts', '../cli/exit.ts'],
  },
  {
    file: 'src/verify/probe.ts',
    allowed: ['../errors.ts', '../native.ts', 'node:fs/promises', '@noble/hashes/sha2.js'],
    refused: ['../image-reader/format.ts', '../objects/opener.ts', '../fuse/abi.ts', 'pino'],
  },
  {
    file: 'src/inspect/probe.ts',
    allowed: ['../errors.ts', '../dump/index.ts', '../filesystem/image-file.ts', 'node:fs'],
    refused: ['../fuse/abi.ts', '../cli/exit.ts', '../log.ts', 'pino'],
  },
  {
    file: 'src/kernel-mount/probe.ts',
    allowed: ['../errors.ts', '../native.ts', '../fuse/caller.ts', '../image-reader/index.ts'],
    refused: ['../fuse/daemon.ts', '../fuse/abi.ts', '../cli/exit.ts', '../log.ts', 'pino'],
  },
  {
    file: 'src/source-directory/probe.ts',
    allowed: ['../errors.ts', '../native.ts', '../image-writer/index.ts', '../objects/store.ts'],
    refused: ['../fuse/abi.ts', '../filesystem/x.ts', '../cli/exit.ts', 'pino'],
  },
  {
    file: 'src/objects/probe.ts',
    allowed: ['../errors.ts', '../native.ts', '../verify/policy.ts', 'node:fs'],
    refused: ['../image-reader/inode.ts', '../source-directory/x.ts', '../fuse/abi.ts', 'pino'],
  },
  {
    file: 'src/filesystem/probe.ts',
    allowed: ['../errors.ts', '../image-reader/inode.ts', '../objects/opener.ts', './x.ts'],
    refused: ['../fuse/abi.ts', '../native.ts', '../cli/exit.ts', 'pino'],
  },
  {
    file: 'src/fuse/request.ts',
    allowed: ['./abi.ts', '../errors.ts'],
    refused: ['../native.ts', './session.ts', '../filesystem/x.ts', '../image-reader/inode.ts'],
  },
  {
    file: 'src/fuse/handlers/probe.ts',
    allowed: ['../abi.ts', '../../errors.ts', '../../filesystem/x.ts', './other.ts'],
    refused: ['../../native.ts', '../session.ts', '../../objects/opener.ts', '../../cli/exit.ts'],
  },
  {
    file: 'src/fuse-native/probe.ts',
    allowed: ['./x.ts', '../filesystem/composefs.ts', '../fuse/mounting.ts', '../native.ts'],
    refused: ['../fuse/abi.ts', '../fuse/dispatch.ts', '../fuse/handlers/x.ts', '../cli/exit.ts'],
  },
  {
    file: 'src/fuse/daemon.ts',
    allowed: ['../native.ts'],
    refused: ['../cli/exit.ts', '../fuse-native/daemon.ts', 'fuse-native'],
  },
  { file: 'src/index.ts', allowed: ['./fuse/daemon.ts'], refused: ['./cli/exit.ts'] },
  {
    file: 'src/cli/probe.ts',
    allowed: ['../fuse/daemon.ts', '../fuse-native/daemon.ts', './exit.ts'],
    refused: [],
  },
];

const folder = mkdtempSync(join(tmpdir(), 'composefs-test-layers-'));
let refusals: Map<string, string[]>;

function place(file: string, text: string): void {
  const path = join(folder, file);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

/** Messages by file. The linter exits non-zero when it finds something, so only its text counts. */
async function lint(): Promise<Map<string, string[]>> {
  const { stdout, stderr } = await new Promise<{ stdout: string; stderr: string }>((resolve) => {
    const oxlint = join(projectRoot, 'node_modules/oxlint/bin/oxlint');
    const args = [oxlint, '--format=json', 'src'];
    execFile(process.execPath, args, { cwd: folder }, (_error, out, err) =>
      resolve({ stdout: out, stderr: err }),
    );
  });
  if (!stdout.startsWith('{')) throw new Error(`oxlint printed no JSON: ${stdout}${stderr}`);
  const report = JSON.parse(stdout) as {
    diagnostics: { code: string; filename: string; message: string }[];
  };
  const found = new Map<string, string[]>();
  for (const { code, filename, message } of report.diagnostics)
    found.set(filename, [...(found.get(filename) ?? []), `${code}: ${message}`]);
  return found;
}

beforeAll(async () => {
  cpSync(join(projectRoot, '.oxlintrc.json'), join(folder, '.oxlintrc.json'));
  for (const { file, allowed, refused } of layers)
    place(
      file,
      [...allowed, ...refused].map((name, i) => `import { a as a${i} } from '${name}';\n`).join(''),
    );
  place('src/loop/a.ts', "import { b } from './b.ts';\nexport const a = (): number => b();\n");
  place('src/loop/b.ts', "import { a } from './a.ts';\nexport const b = (): number => a();\n");
  refusals = await lint();
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the linter', () => {
  for (const { file, allowed, refused } of layers) {
    test(`refuses what ${file} must not import and nothing else`, () => {
      const messages = (refusals.get(file) ?? []).filter((line) =>
        line.includes('no-restricted-imports'),
      );
      for (const name of refused)
        expect(messages, `${file} imports ${name}`).toContainEqual(
          expect.stringContaining(`'${name}'`),
        );
      for (const name of allowed)
        expect(messages, `${file} imports ${name}`).not.toContainEqual(
          expect.stringContaining(`'${name}'`),
        );
    });
  }

  test('refuses modules that import each other in a circle', () => {
    expect(refusals.get('src/loop/a.ts')).toContainEqual(expect.stringContaining('no-cycle'));
  });
});
