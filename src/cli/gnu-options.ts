// The reference tools take GNU long options: abbreviated to a unique prefix, anywhere on the line.
// node:util's parseArgs does the rest.

import { UsageError } from '../errors.ts';

/**
 * Writes every abbreviated long option out in full. Arguments behind `--` are left alone. Throws
 * UsageError for an abbreviation of several options; an unknown option is left for parseArgs.
 */
export function expandAbbreviations(args: readonly string[], names: readonly string[]): string[] {
  const end = args.indexOf('--');
  return args.map((arg, index) => {
    if (!arg.startsWith('--') || (end >= 0 && index >= end)) return arg;
    const equals = arg.indexOf('=');
    const name = arg.slice(2, equals < 0 ? undefined : equals);
    const rest = equals < 0 ? '' : arg.slice(equals);
    if (names.includes(name)) return arg;
    const candidates = names.filter((candidate) => candidate.startsWith(name));
    if (candidates.length > 1) {
      const list = candidates.map((candidate) => `--${candidate}`).join(', ');
      throw new UsageError(`option --${name} is ambiguous: ${list}`);
    }
    return candidates.length === 1 ? `--${candidates[0]}${rest}` : arg;
  });
}
