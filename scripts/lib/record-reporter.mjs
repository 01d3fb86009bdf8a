// A vitest reporter that writes every test's outcome as JSON to the file named by
// COMPOSEFS_TEST_RECORD, with the reason of each skip: vitest's own JSON report leaves out the note
// that `context.skip(note)` records.

import { writeFileSync } from 'node:fs';
import { relative } from 'node:path';

/** Our requirement helpers put the reason at the end of a title; vitest keeps a note elsewhere. */
function skipReason(test) {
  const titled = /\[skipped: (.+?)\](?: > |$)/.exec(test.fullName);
  return titled?.[1] ?? test.result().note;
}

export default class RecordReporter {
  onTestRunEnd(modules, unhandledErrors) {
    const tests = [];
    const errors = unhandledErrors.map((error) => error.stack ?? error.message ?? String(error));
    for (const module of modules) {
      const file = relative(process.cwd(), module.moduleId);
      for (const error of module.errors()) errors.push(`${file}: ${error.message}`);
      for (const suite of module.children.allSuites())
        for (const error of suite.errors()) errors.push(`${file}: ${error.message}`);
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        // A test that never ran because a hook failed is `pending`: that is no success.
        const outcome = state === 'pending' ? 'failed' : state;
        const reason = outcome === 'skipped' ? skipReason(test) : undefined;
        tests.push({ file, name: test.fullName, outcome, reason });
      }
    }
    writeFileSync(process.env.COMPOSEFS_TEST_RECORD, JSON.stringify({ tests, errors }));
  }
}
