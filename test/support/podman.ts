// Rootless podman for tests: an ordinary user with storage of its own, in namespaces that end with the
// test. Whatever a test leaves running in there, podman's pause process too, ends with them.

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Outcome, runCommand, waitUntil } from './command.ts';
import { talkTo } from './dialogue.ts';
import { isRunning } from './mounts.ts';
import { asSubordinateUser, type Requirement } from './requirements.ts';
import type { Scope } from './scope.ts';

/**
 * A new root of mounts and processes. podman wants cgroup version 2, and a root that propagates mounts, as
 * systemd makes it.
 */
const namespaces = ['--mount', '--cgroup', '--pid', '--fork', '--mount-proc', '--kill-child'];
const prepare = 'mount -t cgroup2 none /sys/fs/cgroup && mount --make-rshared /';

const smallRoot = join(import.meta.dirname, 'small-root.sh');

/** The environment of a user whose podman keeps everything in `folder`, whatever the machine's settings. */
function settingsIn(folder: string): NodeJS.ProcessEnv {
  for (const name of ['home', 'run', 'storage', 'state', 'tmp']) {
    mkdirSync(join(folder, name), { mode: 0o700 });
  }
  const storage = `[storage]
driver = "overlay"
graphroot = "${folder}/storage"
runroot = "${folder}/state"
`;
  // An ordinary user may not raise limits, as podman otherwise does, and has no cgroup here.
  const containers = `[containers]
cgroups = "disabled"
netns = "none"
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
`;
  writeFileSync(join(folder, 'storage.conf'), storage);
  writeFileSync(join(folder, 'containers.conf'), containers);
  return {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: join(folder, 'home'),
    XDG_RUNTIME_DIR: join(folder, 'run'),
    TMPDIR: join(folder, 'tmp'),
    CONTAINERS_STORAGE_CONF: join(folder, 'storage.conf'),
    CONTAINERS_CONF: join(folder, 'containers.conf'),
    LC_ALL: 'C',
  };
}

/**
 * A directory with a short name, which $TMPDIR may not have: with sockets at paths of more than 107 bytes
 * podman waits for its containers until it gives up.
 */
function makeFolder(): string {
  const folder = mkdtempSync('/tmp/cfs-');
  chmodSync(folder, 0o755);
  return folder;
}

function giveAway(folder: string): boolean {
  const [, uid = '', gid = ''] = asSubordinateUser.map((word) => word.replace(/.*=/, ''));
  return spawnSync('chown', ['-R', `${uid}:${gid}`, folder]).status === 0;
}

/** Runs a container for real. */
function runsContainers(): boolean {
  if (spawnSync('podman', ['--version']).status !== 0) return false;
  const folder = makeFolder();
  try {
    const env = settingsIn(folder);
    if (spawnSync('sh', [smallRoot, join(folder, 'root')]).status !== 0) return false;
    if (!giveAway(folder)) return false;
    const run = [...asSubordinateUser, 'podman', 'run', '--rm', '--rootfs', join(folder, 'root')];
    const script = `${prepare} && "$@"`;
    const words = [...namespaces, 'sh', '-c', script, 'sh', ...run, 'true'];
    return spawnSync('unshare', words, { env, cwd: folder, timeout: 30_000 }).status === 0;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

let answer: boolean | undefined;
export const needsPodman: Requirement = {
  what: 'rootless podman that runs containers (podman, crun, newuidmap, busybox-static, cgroup version 2)',
  isMet: () => (answer ??= runsContainers()),
};

export class Podman {
  /** A directory of the user's, for whatever a test needs. */
  readonly folder: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #enter: readonly string[];

  private constructor(folder: string, env: NodeJS.ProcessEnv, enter: readonly string[]) {
    this.folder = folder;
    this.#env = env;
    this.#enter = enter;
  }

  static async start(scope: Scope): Promise<Podman> {
    const folder = makeFolder();
    scope.defer(() => rmSync(folder, { recursive: true, force: true }));
    const env = settingsIn(folder);
    giveAway(folder);
    const script = `${prepare} && echo there && read -r _`;
    let init = 0;
    // Before the folder is removed, and after the first process of the namespace has been killed.
    scope.defer(() => waitUntil('the namespace has ended', () => init === 0 || !isRunning(init)));
    const holder = talkTo(scope, 'unshare', [...namespaces, 'sh', '-c', script]);
    await holder.hear();
    init = Number(readFileSync(`/proc/${holder.pid}/task/${holder.pid}/children`, 'utf8'));
    const target = ['--target', String(init)];
    const enter = ['nsenter', ...target, '--mount', '--cgroup', '--pid', ...asSubordinateUser];
    return new Podman(folder, env, enter);
  }

  /** Runs a command as the user, in the test's own directory. Any exit code resolves. */
  async try(command: readonly string[], timeoutMs = 60_000): Promise<Outcome> {
    const [program = '', ...args] = [...this.#enter, ...command];
    // nsenter goes to the root of the namespace.
    const options = { env: this.#env, cwd: this.folder, timeoutMs };
    return await runCommand(program, args, options);
  }

  async must(command: readonly string[], timeoutMs = 60_000): Promise<string> {
    const outcome = await this.try(command, timeoutMs);
    if (outcome.code === 0) return outcome.stdout;
    throw new Error(`${command.join(' ')}: exit code ${outcome.code}: ${outcome.stderr}`);
  }

  /**
   * Runs a shell script in podman's user namespace, in `folder`, with `variables` set. Standard output;
   * rejects when a command of it fails.
   */
  async unshare(script: string, variables: NodeJS.ProcessEnv = {}): Promise<string> {
    const words = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
    const text = `set -e; cd "$folder"; ${script}`;
    const command = ['podman', 'unshare', 'env', `folder=${this.folder}`, ...words];
    return await this.must([...command, 'sh', '-c', text]);
  }

  /** A root filesystem in `folder`, with busybox and programs of this machine. */
  async makeRoot(name: string, programs: readonly string[] = []): Promise<void> {
    const command = ['podman', 'unshare', 'sh', smallRoot, join(this.folder, name), ...programs];
    await this.must(command);
  }
}
