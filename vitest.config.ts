import type { ViteUserConfig } from 'vitest/config';

// One project per folder of test/. The tiers that mount or boot run one file at a time: they share
// the machine's mount table, page cache and two cores, and a parallel run makes their timing
// meaningless.
const serial = { fileParallelism: false, testTimeout: 300_000, hookTimeout: 300_000 };

const config: ViteUserConfig = {
  test: {
    projects: [
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 30_000 } },
      { test: { name: 'fuzz', include: ['test/fuzz/**/*.test.ts'], ...serial } },
      { test: { name: 'differential', include: ['test/differential/**/*.test.ts'], ...serial } },
      { test: { name: 'e2e', include: ['test/e2e/**/*.test.ts'], ...serial } },
      { test: { name: 'vm', include: ['test/vm/**/*.test.ts'], ...serial } },
    ],
  },
};

export default config;
