// What mount.composefs does for whom, as rows of a table. Plain JavaScript with nothing but Node.js, so that
// it runs in a guest of the VM tier as well as here: whose kernel it is decides about the rows.

import { execFile } from 'node:child_process';

const TIMEOUT_MS = 60_000;
/** A user namespace ends with its shell, so everything is done in one. */
const SCRIPT = `
  options=$1 image=$2 mountpoint=$3; shift 3
  "$@" -v -o "$options" "$image" "$mountpoint" || exit
  cat "$mountpoint/hello" >/dev/null || exit 99
  umount "$mountpoint" 2>/dev/null || fusermount3 -u "$mountpoint" || exit 98`;

/** What was said on standard error, and the exit code. */
function run([command, ...args]) {
  return new Promise((resolve) => {
    const options = { encoding: 'utf8', timeout: TIMEOUT_MS, killSignal: 'SIGKILL' };
    execFile(command, args, options, (error, _, stderr) => {
      const code = error === null ? 0 : (error.code ?? error.signal);
      // A program that is not there says nothing itself.
      resolve({ code, stderr: stderr || (error?.message ?? '') });
    });
  });
}

const allWishes = ['nothing', 'tryverity', 'verity', 'digest='];

export async function tryLadder(command, sample, identities, wishes = allWishes) {
  const { image, basedir, mountpoint, digest } = sample;
  const options = { nothing: [], 'digest=': [`digest=${digest}`] };
  const rows = [];
  for (const { title, as } of identities)
    for (const asked of wishes) {
      const words = [`basedir=${basedir}`, ...(options[asked] ?? [asked])].join(',');
      const shell = [...as, 'sh', '-c', SCRIPT, 'sh', words, image, mountpoint, ...command];
      const { code, stderr } = await run(shell);
      const taken = / is mounted on \S+ by (\w+) \((.*); (.*)\)$/m.exec(stderr);
      const refused = stderr.matchAll(/^mount\.composefs: not by (\w+): (.*)$/gm);
      rows.push({
        who: title,
        asked,
        rung: code === 0 && taken !== null ? taken[1] : `exit code ${code}`,
        verifies: taken?.[3] ?? stderr.trim(),
        refused: Object.fromEntries([...refused].map(([, rung, reason]) => [rung, reason])),
      });
    }
  return rows;
}

export function ladderTable(rows) {
  const cells = rows.map(({ who, asked, rung, verifies }) => [who, asked, rung, verifies]);
  const lines = [['who mounts', 'asked for', 'taken', 'what is verified'], ...cells];
  return lines.map((line) => `| ${line.join(' | ')} |`).join('\n');
}
