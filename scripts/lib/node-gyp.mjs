// Builds the addon with node-gyp, from headers that are on this machine where they fit.

import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { run } from './process.mjs';

/** Headers beside the running node (as its tarballs have them), else Debian's libnode-dev: no download. */
function localHeaders() {
  for (const prefix of [dirname(dirname(process.execPath)), '/usr']) {
    const header = join(prefix, 'include/node/node_version.h');
    if (!existsSync(header) || !existsSync(join(prefix, 'include/node/node_api.h'))) continue;
    const major = /#define NODE_MAJOR_VERSION (\d+)/.exec(readFileSync(header, 'utf8'))?.[1];
    if (major === process.versions.node.split('.')[0]) return prefix;
  }
  return undefined;
}

/**
 * Builds what the binding.gyp in `folder` describes, with gyp's `definitions` (`-Dname=value`). The exit
 * code of node-gyp.
 */
export async function buildAddon(folder, definitions = []) {
  const nodeGyp = createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js');
  const env = { ...process.env, JOBS: process.env.JOBS ?? String(availableParallelism()) };
  const headers = localHeaders();
  if (headers !== undefined) env.npm_config_nodedir ??= headers;
  const args = [nodeGyp, 'rebuild', '--loglevel=warn', '--', ...definitions];
  return await run(process.execPath, args, { cwd: folder, env, timeoutMs: 1_800_000 });
}
