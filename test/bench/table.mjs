// A result as text for the terminal and as Markdown for docs/performance.md.

import { showLoad } from './machine.mjs';

/** A number with three digits that mean something. */
function showNumber(value, unit) {
  if (unit === 'entries/s') return Math.round(value).toLocaleString('en');
  if (unit === 'ms') return value.toFixed(0);
  if (unit === 'MB') return value.toFixed(value < 100 ? 1 : 0);
  return value < 100 ? value.toPrecision(3) : value.toFixed(0);
}

function showCell(cell, unit, { to, times }) {
  if (cell?.median === undefined) return cell?.failed ? 'failed' : '-';
  const show = (value) => showNumber(value, unit);
  const range = cell.samples.length > 1 ? ` (${show(cell.min)}${to}${show(cell.max)})` : '';
  const ratio =
    cell.ratio === undefined || cell.mount === 'kernel' ? '' : ` ${times}${cell.ratio.toFixed(2)}`;
  return show(cell.median) + range + ratio;
}

/** Lines of cells: a heading and a line for each measurement. */
function cellsOf(result, style) {
  const mounts = result.mounts.filter((mount) => mount.reason === undefined);
  const lines = result.measurements.map(({ name, unit, cells }) => [
    unit === 's' ? name : `${name}, ${unit}`,
    ...mounts.map((mount) =>
      showCell(
        cells.find((cell) => cell.mount === mount.name),
        unit,
        style,
      ),
    ),
  ]);
  return [['median (range), ratio to the kernel', ...mounts.map(({ name }) => name)], ...lines];
}

function pad(lines) {
  const widths = lines[0].map((_, i) => Math.max(...lines.map((line) => line[i].length)));
  return lines.map((line) => line.map((cell, i) => cell.padEnd(widths[i])));
}

/** What was measured where, a fact a line. */
function factsOf({ machine, image, rounds, loadBefore, loadAfter, seconds }) {
  const entries = image.entries.toLocaleString('en');
  return {
    ...machine,
    image: `${image.source}: ${entries} entries, ${(image.bytes / 1e6).toFixed(1)} MB`,
    rounds: String(rounds),
    load: `${showLoad(loadBefore)} before, ${showLoad(loadAfter)} after`,
    time: `${Math.round(seconds)} s in all`,
  };
}

/** Why there is no number, each reason once, with the measurements or mounts that it is for. */
export function reasonsOf(result) {
  const left = new Map();
  for (const { name, reason } of result.mounts)
    if (reason !== undefined) left.set(`${name}: left out`, reason);
  for (const { name, cells } of result.measurements) {
    const missing = cells.filter((cell) => cell.reason !== undefined);
    for (const reason of new Set(missing.map((cell) => cell.reason))) {
      const mounts = missing.filter((cell) => cell.reason === reason);
      const who =
        mounts.length === cells.length ? '' : `${mounts.map((c) => c.mount).join(', ')}: `;
      left.set(`${who}${name}`, reason);
    }
  }
  return [...left, ...result.problems.map((problem) => ['problem', problem])].map(
    ([what, why]) => `${what}: ${why}`,
  );
}

/** The whole result for a terminal. */
export function toText(result) {
  const facts = Object.entries(factsOf(result)).map(([key, value]) => `${key.padEnd(8)} ${value}`);
  const kinds = result.mounts.map(({ name, is }) => `${name.padEnd(14)} ${is}`);
  const style = { to: '..', times: 'x' };
  const table = pad(cellsOf(result, style)).map((line) => line.join('  ').trimEnd());
  return `${[...facts, '', ...kinds, '', ...table, '', ...reasonsOf(result)].join('\n').trimEnd()}\n`;
}

const escapeCell = (text) => text.replaceAll('|', '\\|');

/** The whole result for a document. */
export function toMarkdown(result) {
  const facts = factsOf(result);
  const style = { to: '–', times: '× ' };
  const [head, ...lines] = pad(cellsOf(result, style).map((line) => line.map(escapeCell)));
  const rule = head.map((cell) => '-'.repeat(cell.length));
  const show = (line) => `| ${line.join(' | ')} |`;
  const mounts = result.mounts.filter((mount) => mount.reason === undefined);
  return [
    `${facts.cpu}, Linux ${facts.kernel}, Node.js ${facts.node}, commit ${facts.commit},`,
    `${facts.date.slice(0, 10)}; image ${facts.image}; ${facts.rounds} rounds; seconds where no`,
    `unit is given; load ${facts.load}. Printed by \`${facts.command}\`.`,
    '',
    ...mounts.map(({ name, is }) => `- ${name}: ${name === 'kernel' ? is : `\`${is}\``}`),
    '',
    ...[head, rule, ...lines].map(show),
    '',
    ...reasonsOf(result).map((reason) => `- ${reason}`),
  ]
    .join('\n')
    .trimEnd()
    .concat('\n');
}
