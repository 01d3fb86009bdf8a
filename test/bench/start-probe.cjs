// Preloaded into the daemon (and its workers) by start.mjs: writes when the steps of a start happened,
// by the clock that start.mjs uses too, without a line for it in the daemon itself.

'use strict';

const fs = require('node:fs');
const { syncBuiltinESMExports } = require('node:module');
const workers = require('node:worker_threads');

const { openSync, writeSync } = fs;
const log = openSync(process.env.COMPOSEFS_BENCH_MARKS, 'a');
const nowMs = () => Number(process.hrtime.bigint()) / 1e6;
const mark = (name, ms = nowMs()) => writeSync(log, `${ms} ${name}\n`);

if (workers.isMainThread) {
  mark('process', nowMs() - performance.now());
  mark('node');

  fs.openSync = (path, ...rest) => {
    if (path === process.env.COMPOSEFS_BENCH_IMAGE) mark('image opened');
    return openSync(path, ...rest);
  };
  fs.writeSync = (fd, text, ...rest) => {
    const result = writeSync(fd, text, ...rest);
    if (typeof text === 'string' && text.startsWith('{"ready":true}')) mark('announced');
    return result;
  };

  workers.Worker = class extends workers.Worker {
    constructor(...args) {
      mark('worker');
      super(...args);
      this.on('message', ({ kind }) => kind === 'serving' && mark('serving'));
    }
  };
  syncBuiltinESMExports();

  // The addon's functions cannot be replaced in place.
  const { dlopen } = process;
  process.dlopen = function (module, ...rest) {
    mark('addon');
    dlopen.call(this, module, ...rest);
    const names = Object.getOwnPropertyNames(module.exports);
    const copy = Object.fromEntries(names.map((name) => [name, module.exports[name]]));
    for (const name of ['openDevice', 'cloneDevice'])
      copy[name] = (...args) => {
        mark(name);
        return module.exports_[name](...args);
      };
    module.exports_ = module.exports;
    module.exports = copy;
  };
}
