// Tells without the option parser whether a command line surely asks for a mount in the background (or
// is wrong, which the daemon reports as well as anybody). In doubt it says no; the parser decides then.

const WITH_VALUE: ReadonlySet<string> = new Set([
  '--basedir',
  '--data',
  '--digest',
  '--log-file',
  '--log-format',
  '--log-level',
  '--options',
  '--pid-file',
  '--poll',
  '--threads',
  '--types',
  '--verify-at',
  '--verify-engine',
  '--verity',
  '-o',
  '-t',
]);
const WITHOUT_VALUE: ReadonlySet<string> = new Set([
  '--no-mtab',
  '--single',
  '--verbose',
  '-n',
  '-s',
  '-v',
]);
/** Behind -o it means the foreground. */
const DEBUG = 'debug';

export function isPlainMount(args: readonly string[]): boolean {
  if (args.some((arg) => arg.includes(DEBUG))) return false;
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (arg === '--') return true;
    if (!arg.startsWith('-') || arg === '-' || WITHOUT_VALUE.has(arg)) continue;
    if (WITH_VALUE.has(arg)) {
      i++;
      continue;
    }
    const hasValue = arg.startsWith('--')
      ? WITH_VALUE.has(arg.split('=', 1)[0]!) && arg.includes('=')
      : WITH_VALUE.has(arg.slice(0, 2));
    if (!hasValue) return false;
  }
  return true;
}
