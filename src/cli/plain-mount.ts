// Tells without the option parser whether a command line surely asks for a mount in the background (or
// is wrong, which the daemon reports as well as anybody). In doubt it says no; the parser decides then.

/** Options that change nothing about where the daemon runs, alone or with their value, and operands. */
const PLAIN_ARGUMENT =
  /^(?:[^-]|-[ot]|-[nsv]$|--(?:basedir|data|digest|gid-map|log-file|log-format|log-level|options|pid-file|squash|threads|uid-map|upperdir|verify-at|verify-engine|verity|workdir)(?:=|$))/;
/** Behind -o it means the foreground. */
const DEBUG = 'debug';
/** As the first argument it is another command; an image of that name is `./doctor`. */
export const DOCTOR = 'doctor';

export function isPlainMount(args: readonly string[]): boolean {
  if (args[0] === DOCTOR) return false;
  return args.every((arg) => PLAIN_ARGUMENT.test(arg) && !arg.includes(DEBUG));
}
