// The report of attacks.mjs as markdown: a table for each time of verification, a row for each attack,
// a column for modes that are expected to behave alike.

import type { AttackReport, Mode } from './attacks.mjs';

export type Columns = readonly (readonly [title: string, holds: (mode: Mode) => boolean])[];

/** Without the kernel's fs-verity, where the engines `auto` and `user` are the same. */
const columnsWithoutVerity: Columns = [
  ['off', ({ policy }) => policy === 'off'],
  ['if-present', ({ policy, engine }) => policy === 'if-present' && engine !== 'kernel'],
  ['if-present, kernel', ({ policy, engine }) => policy === 'if-present' && engine === 'kernel'],
  ['require', ({ policy, engine }) => policy === 'require' && engine !== 'kernel'],
  ['require, kernel', ({ policy, engine }) => policy === 'require' && engine === 'kernel'],
];

/** With it, where each engine is different. */
export const columnsWithVerity: Columns = [
  ['off', ({ policy }) => policy === 'off'],
  ...(['if-present', 'require'] as const).flatMap((wanted) =>
    (['auto', 'kernel', 'user'] as const).map(
      (by) =>
        [
          `${wanted}, ${by}`,
          ({ policy, engine }: Mode) => policy === wanted && engine === by,
        ] as const,
    ),
  ),
];

const nothingToRead = '-';

/** What came of each attack, by table, column and row. Modes that should agree show what each does. */
export type Cells = Record<string, Record<string, Record<string, string>>>;

export function cellsOf(report: AttackReport, columns: Columns = columnsWithoutVerity): Cells {
  const cells: Cells = {};
  const rows = new Set(report.cells.flatMap((each) => Object.keys(each.cells)));
  for (const at of ['open', 'read'])
    for (const [title, holds] of columns) {
      const modes = report.cells.filter(({ mode }) => mode.at === at && holds(mode));
      if (modes.length === 0) continue;
      const outcomes = (row: string) =>
        new Set(modes.map((each) => each.cells[row] ?? nothingToRead));
      const column = [...rows].map((row) => [row, [...outcomes(row)].join(' / ')]);
      (cells[`--verify-at ${at}`] ??= {})[title] = Object.fromEntries(column);
    }
  return cells;
}

function markdown(rows: readonly string[][]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const lines = rows.map((row) => row.map((text, column) => text.padEnd(widths[column]!)));
  lines.splice(
    1,
    0,
    widths.map((width) => '-'.repeat(width)),
  );
  return lines.map((line) => `| ${line.join(' | ')} |`).join('\n');
}

export function showCells(cells: Cells): string {
  return Object.entries(cells)
    .map(([corner, table]) => {
      const titles = Object.keys(table);
      const rows = Object.keys(table[titles[0]!]!);
      const body = rows.map((row) => [row, ...titles.map((title) => table[title]![row]!)]);
      return markdown([[corner, ...titles], ...body]);
    })
    .join('\n\n');
}

/** The tables that `showCells` prints. */
export function parseCells(text: string): Cells {
  const cells: Cells = {};
  for (const block of text.trim().split('\n\n')) {
    const lines = block.split('\n').map((line) => line.split('|').slice(1, -1));
    const [head = [], , ...body] = lines.map((line) => line.map((word) => word.trim()));
    const [corner = '', ...titles] = head;
    const columnOf = (at: number) => body.map((line) => [line[0]!, line[at + 1]!] as const);
    cells[corner] = Object.fromEntries(
      titles.map((title, at) => [title, Object.fromEntries(columnOf(at))]),
    );
  }
  return cells;
}

/** Of all columns those that the other one has too. */
export function columnsOf(all: Cells, wanted: Cells): Cells {
  const pick = (table: Cells[string], name: string) =>
    Object.fromEntries(Object.entries(table).filter(([title]) => title in (wanted[name] ?? {})));
  return Object.fromEntries(Object.entries(all).map(([name, table]) => [name, pick(table, name)]));
}
