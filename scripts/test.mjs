// `npm test`: sets the machine up, runs the static checks and every tier of tests, and closes with a
// summary whose last line is `N passed, N failed, N skipped`.
//
//   npm test -- --tier unit,e2e   only these tiers (static, unit, fuzz, differential, e2e, vm)
//   npm test -- -t 'a name'       everything else goes to vitest

import { chmodSync, closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { capture, run } from './lib/process.mjs';
import { root, setup } from './setup.mjs';

/** Time limits are for hangs, several times what a tier needs on two cores. */
const staticChecks = ['typecheck', 'lint', 'format:check'];
const tierLimits = { unit: 5, fuzz: 12, differential: 12, e2e: 14, vm: 15 };
/** QEMU minds nobody, and these two mind nothing but the machine's speed. */
const besideVm = ['fuzz', 'differential'];
const allTiers = ['static', ...Object.keys(tierLimits)];
const minuteMs = 60_000;

function usage(message) {
  console.error(`test: ${message}; tiers are ${allTiers.join(', ')}`);
  process.exit(2);
}

function parseArguments(args) {
  const tiers = [];
  const rest = [];
  for (let i = 0; i < args.length; i++) {
    const [flag, value] = args[i].split('=', 2);
    if (flag !== '--tier') rest.push(args[i]);
    else tiers.push(...(value ?? args[++i] ?? usage('--tier needs a value')).split(','));
  }
  for (const tier of tiers) if (!allTiers.includes(tier)) usage(`unknown tier ${tier}`);
  return { tiers: tiers.length === 0 ? allTiers : tiers, rest };
}

async function runStaticChecks() {
  const tests = [];
  for (const script of staticChecks) {
    console.log(`\n== static: ${script}`);
    const args = ['run', '--silent', script];
    const code = await run('npm', args, { cwd: root, timeoutMs: 5 * minuteMs });
    tests.push({ file: 'package.json', name: script, outcome: code === 0 ? 'passed' : 'failed' });
  }
  return { tests, errors: [] };
}

/**
 * Runs one vitest project. Its outcome comes from the record, never from the text it prints, which goes
 * to `output`.
 */
async function runTier(tier, rest, folder, output = 'inherit') {
  if (output === 'inherit') console.log(`\n== ${tier}`);
  const recordPath = join(folder, `${tier}.json`);
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const reporters = ['default', join(root, 'scripts/lib/record-reporter.mjs')];
  const code = await run(
    process.execPath,
    [
      vitest,
      'run',
      '--project',
      tier,
      '--passWithNoTests',
      ...reporters.map((name) => `--reporter=${name}`),
      ...rest,
    ],
    {
      cwd: root,
      env: { ...process.env, COMPOSEFS_TEST_RECORD: recordPath, TMPDIR: folder },
      timeoutMs: tierLimits[tier] * minuteMs,
      output,
    },
  );
  let outcome;
  try {
    outcome = JSON.parse(readFileSync(recordPath, 'utf8'));
  } catch {
    const why = code === 124 ? `did not end within ${tierLimits[tier]} minutes` : 'left no record';
    return { tests: [], errors: [`vitest ${why} (exit code ${code})`] };
  }
  const failed = outcome.tests.some((test) => test.outcome === 'failed');
  if (code !== 0 && !failed && outcome.errors.length === 0)
    outcome.errors.push(`vitest ended with exit code ${code}`);
  return outcome;
}

/** Mounts below the run's temporary directory: a test that leaves one has not cleaned up. */
function leftoverMounts(folder) {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((mountpoint) => mountpoint.startsWith(`${folder}/`))
    .reverse();
}

function checkLeftovers(folder) {
  const left = leftoverMounts(folder);
  for (const mountpoint of left)
    if (capture('umount', ['-l', mountpoint]).code !== 0)
      capture('fusermount3', ['-uz', mountpoint]);
  const errors = left.map((mountpoint) => `left behind a mount on ${mountpoint}`);
  return { tests: [], errors };
}

const count = (tests, outcome) => tests.filter((test) => test.outcome === outcome).length;

function printSummary(results, everythingRan) {
  const rows = results.map(({ tier, outcome, seconds }) => ({
    tier,
    passed: count(outcome.tests, 'passed'),
    failed: count(outcome.tests, 'failed') + outcome.errors.length,
    skipped: count(outcome.tests, 'skipped'),
    seconds,
  }));
  console.log('\n== summary\n');
  console.log('tier           passed  failed  skipped   seconds');
  for (const row of rows) {
    const numbers = [row.passed, row.failed, row.skipped, row.seconds.toFixed(1)];
    console.log(row.tier.padEnd(13) + numbers.map((n) => String(n).padStart(8)).join(''));
  }
  let unexplained = 0;
  for (const { tier, outcome } of results) {
    for (const { file, name } of outcome.tests.filter((test) => test.outcome === 'failed'))
      console.log(`failed:  ${tier}: ${file}: ${name}`);
    for (const error of outcome.errors) console.log(`failed:  ${tier}: ${error}`);
    for (const { name, reason } of outcome.tests.filter((test) => test.outcome === 'skipped')) {
      // A filter on the command line skips the rest of the tests, and needs no excuse.
      if (reason === undefined && !everythingRan) continue;
      if (reason === undefined) unexplained++;
      console.log(`skipped: ${tier}: ${name}${reason === undefined ? ' (NO REASON GIVEN)' : ''}`);
      if (reason !== undefined && !name.includes(reason)) console.log(`         ${reason}`);
    }
  }
  const sum = (key) => rows.reduce((total, row) => total + row[key], 0);
  if (unexplained > 0) console.log(`failed:  ${unexplained} tests were skipped without a reason`);
  const failed = sum('failed') + (unexplained > 0 ? 1 : 0);
  console.log(`\n${sum('passed')} passed, ${failed} failed, ${sum('skipped')} skipped`);
  return failed === 0;
}

const { tiers, rest } = parseArguments(process.argv.slice(2));
// Everything temporary of the run is in here; ordinary users may enter, since some tests are theirs.
const folder = mkdtempSync(join(tmpdir(), 'composefs-test-'));
chmodSync(folder, 0o755);
const results = [];
let started = Date.now();

function record(tier, outcome, since = started) {
  results.push({ tier, outcome, seconds: (Date.now() - since) / 1000 });
  started = Date.now();
}

/** Started beside `besideVm`; ends before anything is measured or timed. */
let vm;

function startVm() {
  const path = join(folder, 'vm.output');
  const output = openSync(path, 'w');
  const since = Date.now();
  const outcome = runTier('vm', rest, folder, output).finally(() => closeSync(output));
  vm = { path, since, outcome };
}

async function finishVm() {
  const { path, since, outcome } = vm;
  const result = await outcome;
  console.log(`\n== vm (beside ${besideVm.join(' and ')})\n${readFileSync(path, 'utf8')}`);
  record('vm', result, since);
}

try {
  await setup(tiers);
  record('setup', { tests: [], errors: [] });
  for (const tier of tiers) {
    const isLast = !tiers.slice(tiers.indexOf(tier)).some((next) => besideVm.includes(next));
    if (vm !== undefined && isLast && !results.some((result) => result.tier === 'vm'))
      await finishVm();
    if (besideVm.includes(tier) && tiers.includes('vm') && vm === undefined) startVm();
    if (tier === 'vm' && vm !== undefined) continue;
    record(tier, tier === 'static' ? await runStaticChecks() : await runTier(tier, rest, folder));
  }
} catch (error) {
  record('setup', { tests: [], errors: [error.message] });
}
const leftovers = checkLeftovers(folder);
if (leftovers.errors.length > 0) record('clean-up', leftovers);
rmSync(folder, { recursive: true, force: true });
process.exitCode = printSummary(results, rest.length === 0) ? 0 : 1;
