// A user and mount namespace in which all ids exist, for commands that are put into it.

import { writeFileSync } from 'node:fs';
import { talkTo } from './dialogue.ts';
import type { Scope } from './scope.ts';

/** `enter` stands in front of a command and runs it as root of the namespace, which `pid` holds. */
export async function userNamespace(scope: Scope): Promise<{ pid: number; enter: string[] }> {
  const holder = talkTo(scope, 'unshare', [
    ...['--user', '--mount', 'sh', '-c', 'echo there; read -r _'],
  ]);
  await holder.hear();
  for (const map of ['uid_map', 'gid_map'])
    writeFileSync(`/proc/${holder.pid}/${map}`, '0 0 65536\n');
  const target = ['--target', String(holder.pid)];
  const enter = ['nsenter', ...target, '--user', '--mount', '--setuid', '0', '--setgid', '0'];
  return { pid: holder.pid, enter };
}
