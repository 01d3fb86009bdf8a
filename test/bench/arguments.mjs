// The command line of a benchmark: --help prints what its file says at its beginning, and a mistake is
// one line.

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/** The values of `options` (of util.parseArgs), with defaults. Ends the process for --help and mistakes. */
export function benchArguments(scriptUrl, options) {
  const script = fileURLToPath(scriptUrl);
  try {
    const help = { type: 'boolean', short: 'h', default: false };
    const { values } = parseArgs({ options: { ...options, help } });
    if (!values.help) return values;
  } catch (error) {
    console.error(`${basename(script)}: ${error.message}; see --help`);
    process.exit(1);
  }
  const lines = readFileSync(script, 'utf8').split('\n');
  const end = lines.findIndex((line) => !line.startsWith('//'));
  for (const line of lines.slice(0, end)) console.log(line.replace(/^\/\/ ?/, ''));
  process.exit(0);
}
