// The package's version, for --version.

import { createRequire } from 'node:module';

export function version(): string {
  const require = createRequire(import.meta.url);
  return (require('composefs-fuse/package.json') as { version: string }).version;
}
