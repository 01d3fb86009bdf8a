// Preloaded into a measured process: at its end writes what it used to descriptor 3, as JSON.
// VmHWM and not resourceUsage().maxRSS, which begins with the memory of the process that forked.

'use strict';

const { readFileSync, writeSync } = require('node:fs');

process.on('exit', () => {
  const { user, system } = process.cpuUsage();
  const [, peakKiB] = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'latin1'));
  writeSync(3, JSON.stringify({ cpuSeconds: (user + system) / 1e6, peakKiB: Number(peakKiB) }));
});
