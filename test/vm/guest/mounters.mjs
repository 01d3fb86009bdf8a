// Who mounts, and how, on the kernel of this guest: root, an ordinary user through fusermount3, and the
// root of a user namespace. What each of them sees, what a killed daemon leaves, which way
// mount.composefs takes for whom, and how the kernel begins to talk to a daemon.

import { chmodSync, chownSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tryLadder } from '../../support/ladder.mjs';
import { recordInit } from '../../support/record-init.mjs';
import { folder, input, mountExt4, must, parseWalk, project, run, runBeside } from './harness.mjs';

const NOBODY = 65534;
const asNobody = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
const identities = [
  { title: 'root', as: [] },
  {
    title: 'root of a user namespace',
    as: [...asNobody, 'unshare', '--user', '--map-root-user', '--mount'],
  },
  { title: 'an ordinary user', as: asNobody },
];

/** Image and objects on a filesystem that has fs-verity, and has it enabled on all of them. */
function prepare() {
  const disk = mountExt4();
  const [image, objects] = ['image.cfs', 'objects'].map((name) => join(disk, name));
  cpSync(input.mounters.image, image);
  cpSync(input.mounters.objects, objects, { recursive: true });
  must('sh', '-c', `find ${image} ${objects} -type f -exec fsverity enable {} \\;`);
  return { image, objects };
}

/** A place of one's own, with a directory to mount on. */
function placeFor(as) {
  const owner = as.length === 0 ? 0 : NOBODY;
  const place = folder();
  const mountpoint = join(place, 'mnt');
  mkdirSync(mountpoint);
  for (const path of [place, mountpoint]) chownSync(path, owner, owner);
  chmodSync(place, 0o755);
  return { place, mountpoint };
}

/**
 * Two mounts in one shell, since a user namespace ends with it: one that is looked at and whose daemon is then
 * killed, and one with auto_unmount whose daemon is killed.
 */
const SCRIPT = `
  place=$1 image=$2 objects=$3 walker=$4; cd "$place"
  mounted() { grep -q " $place/mnt " /proc/self/mounts; }
  until_not() { i=0; while "$@" 2>/dev/null && [ $i -lt 200 ]; do sleep 0.1; i=$((i + 1)); done; }
  is_silent() { ! grep -q 'object refused' log; }
  start() { composefs-fuse --pid-file pid --basedir "$objects" "$@" "$image" mnt || exit; }
  murder() { pid=$(cat pid); kill -9 "$pid"; until_not kill -0 "$pid"; rm -f pid; }

  start --log-file log
  python3 -I "$walker" --parts=stat,dirent,xattr,link,read mnt >tree
  # It is logged by another thread than the one that refuses.
  until_not is_silent
  murder
  cat mnt/hello 2>&1 | sed 's/.*: //' >facts
  umount mnt 2>/dev/null || fusermount3 -u "$place/mnt"
  mounted && echo 'is still there' >>facts || echo 'is removed' >>facts

  start -o auto_unmount
  murder
  until_not mounted
  mounted && echo 'is left' >>facts || echo 'is gone' >>facts`;

async function tryMounting({ as }, { image, objects }) {
  const { place } = placeFor(as);
  const walker = join(project, 'test/support/tree-walk.py');
  const shell = [...as, 'sh', '-c', SCRIPT, 'sh', place, image, objects, walker];
  const { code, stdout, stderr } = await runBeside(shell[0], shell.slice(1));
  if (code !== 0) throw new Error(`exit code ${code}: ${stdout}${stderr}`);
  const lines = (name) => readFileSync(join(place, name), 'utf8').trimEnd().split('\n');
  const log = lines('log').map((line) => JSON.parse(line));
  const [killed, unmounted, withAutoUnmount] = lines('facts');
  return {
    mounted: log.find(({ msg }) => msg === 'mounted'),
    messages: log.map(({ msg }) => msg),
    tree: Object.fromEntries(parseWalk(lines('tree').join('\n'))),
    killed: { read: killed, unmounted, withAutoUnmount },
  };
}

const helper = [process.execPath, join(project, 'dist/cli/mount-composefs.cjs')];

function climbLadder(identity, { image, objects }) {
  const { mountpoint } = placeFor(identity.as);
  // No wish names the digest: measuring it would be one more start of Node.js.
  const sample = { image, basedir: objects, mountpoint, digest: '' };
  return tryLadder(helper, sample, [identity], input.wishes);
}

function tryWritableLayer({ image, objects }) {
  const { place, mountpoint } = placeFor([]);
  const [upper, work] = ['upper', 'work'].map((name) => join(place, name));
  for (const path of [upper, work]) mkdirSync(path);
  const options = `basedir=${objects},upperdir=${upper},workdir=${work}`;
  const said = run(helper[0], [helper[1], '-v', '-o', options, image, mountpoint]);
  if (said.code !== 0) return said;
  writeFileSync(join(mountpoint, 'hello'), 'changed\n');
  must('umount', mountpoint);
  return { ...said, upper: readFileSync(join(upper, 'hello'), 'utf8') };
}

/** The cases, for runCases. */
export function mounterCases() {
  let sample;
  let begun;
  const cases = {
    'the first request': () => recordInit(),
    'a writable layer': () => {
      sample = prepare();
      return tryWritableLayer(sample);
    },
  };
  // All at the same time: most of it is Node.js that starts, which an emulated processor is slow at.
  const begin = () =>
    identities.map(async (identity) => ({
      mount: await tryMounting(identity, sample),
      ladder: await climbLadder(identity, sample),
    }));
  for (const [i, { title }] of identities.entries())
    cases[title] = () => {
      begun ??= begin();
      // The others' failures are theirs.
      for (const each of begun) each.catch(() => {});
      return begun[i];
    };
  return cases;
}
