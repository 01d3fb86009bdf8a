import { describe, expect, test } from 'vitest';
import { toMarkdown, toText } from '../../bench/table.mjs';
import { sampleResult } from './sample-result.ts';

describe('a result as text', () => {
  test('is a Markdown table with median, range and ratio for each mount that was measured', () => {
    const lines = toMarkdown(sampleResult())
      .split('\n')
      .map((line) => line.replace(/ +/g, ' '));
    expect(lines).toContain('| median (range), ratio to the kernel | kernel | open | peer |');
    expect(lines).toContain(
      '| walk, cold | 1.50 (1.00–2.00) | 3.00 (3.00–3.00) × 2.00 | 0.750 (0.500–0.900) × 0.50 |',
    );
    expect(lines).toContain('| start of a program | 0.0100 | failed | 0.200 × 20.00 |');
    expect(lines).toContain('| walk of 1,000 entries, entries/s | 80,000 | 40,000 × 2.00 | - |');
    expect(lines).toContain('| memory, MB | - | 103 | - |');
  });

  test.each([
    ['Markdown', toMarkdown],
    ['text', toText],
  ])('says in %s where it was measured and why numbers are missing', (_name, show) => {
    const text = show(sampleResult());
    expect(text).toContain('made for this run: 123,456 entries, 31.0 MB');
    expect(text).toContain('0.00 0.10 0.20 before, 1.00 1.00 1.00 after');
    expect(text).toContain('abc1234');
    expect(text).toContain('fast: left out: there is no such option');
    expect(text).toContain('open: start of a program: failed: exit code 1');
    expect(text).toContain('kernel: memory: no process');
    expect(text).toContain('problem: open logged 1 lines: trouble');
  });
});
