// The package's version, for --version.

import { readFileSync } from 'node:fs';

export function version(): string {
  const path = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version;
}
