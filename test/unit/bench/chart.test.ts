import { describe, expect, test } from 'vitest';
import { drawChart, ticksAround } from '../../bench/chart.mjs';
import { readXml } from '../../support/xml.ts';
import type { XmlElement } from '../../support/xml.ts';
import { sampleResult } from './sample-result.ts';

const texts = (root: XmlElement): string[] =>
  root.children.filter(({ name }) => name === 'text').map(({ text }) => text);
const numberOf = (element: XmlElement, name: string): number => Number(element.attributes[name]);

describe('the chart of a result', () => {
  test('is well-formed, and says machine, commit, date and which mounts there are', () => {
    const root = readXml(drawChart(sampleResult()));
    expect(root.name).toBe('svg');
    expect(texts(root).join('\n')).toContain('Linux 6.18.1, 2 x <Processor> & Co, Node.js v20.0.0');
    expect(texts(root).join('\n')).toContain('commit abc1234, 2026-01-02, medians of 3 rounds');
    expect(texts(root)).toContain('open');
    expect(texts(root)).toContain('peer');
    expect(texts(root)).not.toContain('fast');
  });

  test('has a bar from the kernel’s line for each ratio, left for faster and right for slower', () => {
    const root = readXml(drawChart(sampleResult()));
    const kernel = root.children.find(
      ({ name, attributes }) => name === 'line' && attributes['stroke-width'] !== undefined,
    )!;
    const line = numberOf(kernel, 'x1');
    const bars = root.children.filter(
      ({ name, attributes }) => name === 'rect' && attributes['rx'] === undefined,
    );
    // walk: 2 and 0.5; start: 20 for the peer alone; rate: 2 for ours.
    const ends = bars.map((bar) => [
      numberOf(bar, 'x'),
      numberOf(bar, 'x') + numberOf(bar, 'width'),
    ]);
    expect(bars).toHaveLength(4);
    expect(ends[0]![0]).toBeCloseTo(line, 1);
    expect(ends[1]![1]).toBeCloseTo(line, 1);
    // Half and twice are equally far on a logarithmic scale.
    expect(ends[0]![1]! - line).toBeCloseTo(line - ends[1]![0]!, 1);
    expect(ends[2]![1]! - line).toBeCloseTo((ends[0]![1]! - line) * Math.log2(20), 0);
  });

  test('says what failed, and leaves out what no mount has a ratio for', () => {
    const all = texts(readXml(drawChart(sampleResult())));
    expect(all.filter((text) => text === 'failed')).toHaveLength(1);
    expect(all.filter((text) => text === 'not measured')).toHaveLength(1);
    expect(all).not.toContain('memory');
  });

  test('keeps everything inside its edges', () => {
    const root = readXml(drawChart(sampleResult()));
    const [, , width = 0, height = 0] = root.attributes['viewBox']!.split(' ').map(Number);
    for (const element of root.children.filter(({ name }) => name !== 'line')) {
      expect(numberOf(element, 'x')).toBeGreaterThanOrEqual(0);
      expect(numberOf(element, 'x')).toBeLessThan(width);
      expect(numberOf(element, 'y')).toBeLessThan(height);
    }
  });

  test.each([
    [
      [0.3, 7],
      [0.2, 0.5, 1, 2, 5, 10],
    ],
    [
      [1, 1],
      [1, 2],
    ],
    [[], [1, 2]],
    [
      [15, 60],
      [1, 2, 5, 10, 20, 50, 100],
    ],
  ])('the scale around %j is %j', (ratios, ticks) => {
    expect(ticksAround(ratios)).toEqual(ticks);
  });
});
