// The checks of user namespaces, in which ordinary users get rungs of the ladder that are root's otherwise.

import { userInfo } from 'node:os';
import type { Caller } from './caller.ts';
import { ok, skip, type Verdict, warn } from './finding.ts';
import { type Ending, findProgram, lastWords, readText, run, sysctl } from './system.ts';

export const UNSHARE = 'unshare';
/** Options of unshare(1) for a namespace in which the caller is root; the mounts in it are its own. */
export const IN_USER_NAMESPACE: readonly string[] = [
  '--user',
  '--map-root-user',
  '--mount',
  '--propagation',
  'private',
];
const APPARMOR = 'kernel/apparmor_restrict_unprivileged_userns';

/** Whether one can be made here, with a mount namespace in it. Tried. */
export async function tryUserNamespace(): Promise<Ending | undefined> {
  if (findProgram(UNSHARE) === undefined) return undefined;
  return await run(UNSHARE, [...IN_USER_NAMESPACE, 'true']);
}

export function checkUserNamespaces(tried: Ending | undefined): Verdict {
  if (tried === undefined) return skip('unshare(1) is not on the path; it is in util-linux');
  const most = sysctl('user/max_user_namespaces');
  const cloned = sysctl('kernel/unprivileged_userns_clone');
  const settings = [
    most === undefined ? undefined : `user.max_user_namespaces ${most}`,
    cloned === undefined ? undefined : `kernel.unprivileged_userns_clone ${cloned}`,
  ];
  const known = settings.filter((text) => text !== undefined).join(', ');
  if (tried.code === 0) return ok(`they can be made (${known})`);
  const found = `none can be made: ${lastWords(tried, UNSHARE)} (${known})`;
  if (most === '0') return warn(found, 'as root, sysctl -w user.max_user_namespaces=15000');
  if (cloned === '0') return warn(found, 'as root, sysctl -w kernel.unprivileged_userns_clone=1');
  if (sysctl(APPARMOR) === '1') return warn(found, 'see apparmor-userns');
  return warn(found, 'in a container, let its seccomp profile permit unshare(2)');
}

/** Without a range of ids only one's own files have an owner in the namespace. */
export async function checkSubids(caller: Caller, hasNamespaces: boolean): Promise<Verdict> {
  if (caller.scope !== 'none') return skip('root has all ids of its namespace');
  if (!hasNamespaces) return skip('no user namespace can be made');
  const username = nameOf(caller.uid);
  const ranges = ['/etc/subuid', '/etc/subgid'].map((path) => ({
    path,
    range: rangeOf(readText(path) ?? '', username, caller.uid),
  }));
  const missing = ranges.find(({ range }) => range === undefined);
  const remedy = `as root, usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${username}`;
  if (missing !== undefined) return warn(`${missing.path} has no range for ${username}`, remedy);
  if (findProgram('newuidmap') === undefined) {
    return warn('newuidmap is not on the path', 'install the package uidmap');
  }
  const found = ranges.map(({ path, range }) => `${path}: ${range}`).join(', ');
  const tried = await run(UNSHARE, ['--user', '--map-root-user', '--map-auto', 'true']);
  if (tried.code === 0) return ok(`${found}; unshare --map-auto works`);
  return warn(`${found}, but unshare --map-auto fails: ${lastWords(tried, UNSHARE)}`);
}

/** A container's user may be in no password file. */
function nameOf(uid: number): string {
  try {
    return userInfo().username;
  } catch {
    return String(uid);
  }
}

/** `100000+65536`, the first range of this user in a file like /etc/subuid; undefined for none. */
export function rangeOf(text: string, name: string, uid: number): string | undefined {
  const fields = text.split('\n').map((line) => line.trim().split(':'));
  const own = fields.find(
    ([who, , count]) => (who === name || who === String(uid)) && Number(count) > 0,
  );
  return own === undefined ? undefined : `${own[1]}+${own[2]}`;
}

export function checkApparmor(hasNamespaces: boolean): Verdict {
  const value = sysctl(APPARMOR);
  const name = 'kernel.apparmor_restrict_unprivileged_userns';
  if (value === undefined) return ok('AppArmor does not restrict user namespaces');
  if (value === '0') return ok(`${name} is 0`);
  if (hasNamespaces) return ok(`${name} is ${value}, but not for this user and unshare(1)`);
  return warn(
    `${name} is ${value}: ordinary users' namespaces have no privileges`,
    `as root, sysctl -w ${name}=0, or an AppArmor profile with \`userns,\` for ${UNSHARE}`,
  );
}
