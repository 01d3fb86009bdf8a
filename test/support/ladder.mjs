// What mount.composefs does for whom, as rows of a table. Plain JavaScript with nothing but Node.js, so that
// it runs in a guest of the VM tier as well as here: whose kernel it is decides about the rows.

import { spawnSync } from 'node:child_process';

const TIMEOUT_MS = 30_000;
/** A user namespace ends with its shell, so everything is done in one. */
const SCRIPT = `
  options=$1 image=$2 mountpoint=$3; shift 3
  "$@" -v -o "$options" "$image" "$mountpoint" || exit
  cat "$mountpoint/hello" >/dev/null || exit 99
  umount "$mountpoint" 2>/dev/null || fusermount3 -u "$mountpoint" || exit 98`;

export function tryLadder(command, { image, basedir, mountpoint, digest }, identities) {
  const wishes = ['', 'tryverity', 'verity', `digest=${digest}`];
  return identities.flatMap(({ title, as }) =>
    wishes.map((wish) => {
      const options = [`basedir=${basedir}`, wish].filter((word) => word !== '').join(',');
      const shell = [...as, 'sh', '-c', SCRIPT, 'sh', options, image, mountpoint, ...command];
      const { status, stderr } = spawnSync(shell[0], shell.slice(1), {
        encoding: 'utf8',
        timeout: TIMEOUT_MS,
      });
      const taken = / is mounted on \S+ by (\w+) \((.*); (.*)\)$/m.exec(stderr);
      const refused = stderr.matchAll(/^mount\.composefs: not by (\w+): (.*)$/gm);
      return {
        who: title,
        asked: wish === '' ? 'nothing' : wish.replace(/=.*/, '='),
        rung: status === 0 && taken !== null ? taken[1] : `exit code ${status}`,
        verifies: taken?.[3] ?? stderr.trim(),
        refused: Object.fromEntries([...refused].map(([, rung, reason]) => [rung, reason])),
      };
    }),
  );
}

export function ladderTable(rows) {
  const cells = rows.map(({ who, asked, rung, verifies }) => [who, asked, rung, verifies]);
  const lines = [['who mounts', 'asked for', 'taken', 'what is verified'], ...cells];
  return lines.map((line) => `| ${line.join(' | ')} |`).join('\n');
}
