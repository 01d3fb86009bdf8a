// Hashing in pure TypeScript: any platform, no addon, no Node. About 107 MB/s with SHA-256.

import { sha256, sha512 } from '@noble/hashes/sha2.js';
import { type DigestEngine, makeBlockHasher } from './engine.ts';

export const nobleEngine: DigestEngine = {
  name: 'noble',
  createHasher: (parameters) =>
    makeBlockHasher(parameters, parameters.algorithm === 'sha256' ? sha256 : sha512),
};
