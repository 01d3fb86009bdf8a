// A result as a picture: for each measurement a group of bars, one for each mount, that say how many
// times the kernel's own mount it takes. The scale is logarithmic, so that twice as fast and twice as
// slow are equally far from the kernel's line. The background is left transparent and every colour is
// one that can be seen on white and on dark.

const WIDTH = 980;
const LABEL_WIDTH = 320;
const VALUE_WIDTH = 50;
const HEAD_HEIGHT = 64;
const LEGEND_LINE = 18;
const BAR_HEIGHT = 9;
const GROUP_GAP = 10;
const AXIS_HEIGHT = 24;
const LETTER_WIDTH = 7;
const textColour = '#76808b';
const colours = [
  '#3b82f6',
  '#10a37f',
  '#e08a00',
  '#a259e6',
  '#e5484d',
  '#0ea5c6',
  '#d6409f',
  '#7a9a01',
];

const entities = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escapeXml = (text) => text.replace(/[&<>"']/g, (letter) => entities[letter]);
const round = (number) => Math.round(number * 100) / 100;

function text(x, y, content, more = '') {
  return `<text x="${round(x)}" y="${round(y)}"${more}>${escapeXml(content)}</text>`;
}

/** The numbers 1, 2 and 5 times a power of ten that enclose the ratios, and 1 in any case. */
export function ticksAround(ratios) {
  const [low, high] = [Math.min(1, ...ratios), Math.max(1, ...ratios)];
  const steps = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const digit of [1, 2, 5]) steps.push(Number(`${digit}e${power}`));
  const first = steps.findLastIndex((step) => step <= low);
  const last = steps.findIndex((step) => step >= high);
  // A scale needs two ends, also when everything is as fast as the kernel.
  return steps.slice(first, Math.max(last, first + 1) + 1);
}

/** Measurements that have a ratio for some mount other than the kernel's, with these cells only. */
function groupsOf(result, names) {
  return result.measurements
    .map(({ name, cells }) => ({
      name,
      cells: names.map((mount) => cells.find((cell) => cell.mount === mount)),
    }))
    .filter(({ cells }) => cells.some((cell) => cell?.ratio > 0));
}

function drawLegend(names) {
  const parts = [];
  let [x, y] = [16, HEAD_HEIGHT];
  for (const [i, name] of names.entries()) {
    const width = 16 + (name.length + 2) * LETTER_WIDTH;
    if (x + width > WIDTH - 16) [x, y] = [16, y + LEGEND_LINE];
    const colour = colours[i % colours.length];
    parts.push(`<rect x="${x}" y="${y - 9}" width="10" height="10" rx="2" fill="${colour}"/>`);
    parts.push(text(x + 16, y, name));
    x += width;
  }
  return { parts, bottom: y + LEGEND_LINE };
}

function drawGrid(ticks, place, top, bottom) {
  return ticks.flatMap((tick) => {
    const x = round(place(tick));
    const isKernel = tick === 1;
    const stroke = isKernel ? 'stroke-width="1.5"' : 'stroke-opacity="0.3"';
    return [
      `<line x1="${x}" y1="${top}" x2="${x}" y2="${bottom}" stroke="${textColour}" ${stroke}/>`,
      text(x, bottom + 15, isKernel ? 'kernel' : `× ${tick}`, ' text-anchor="middle"'),
    ];
  });
}

function drawBar(cell, i, y, place) {
  const middle = y + BAR_HEIGHT - 1.5;
  if (!(cell?.ratio > 0)) {
    const why = cell?.failed ? 'failed' : 'not measured';
    return [text(place(1) + 4, middle, why, ' font-size="8" font-style="italic"')];
  }
  const [from, to] = [place(1), place(cell.ratio)];
  const [x, width] = [Math.min(from, to), Math.max(Math.abs(to - from), 1)];
  const fill = colours[i % colours.length];
  const value = cell.ratio.toFixed(cell.ratio < 10 ? 2 : 1);
  return [
    `<rect x="${round(x)}" y="${y}" width="${round(width)}" height="${BAR_HEIGHT - 1}" fill="${fill}"/>`,
    text(Math.max(from, to) + 4, middle, value, ' font-size="8"'),
  ];
}

function drawGroup({ name, cells }, y, place) {
  const height = cells.length * BAR_HEIGHT;
  const label = text(LABEL_WIDTH - 10, y + height / 2 + 4, name, ' text-anchor="end"');
  return [label, ...cells.flatMap((cell, i) => drawBar(cell, i, y + i * BAR_HEIGHT, place))];
}

/** The SVG text of a result. */
export function drawChart(result) {
  const names = result.mounts
    .filter((mount) => mount.reason === undefined && mount.name !== 'kernel')
    .map(({ name }) => name);
  const groups = groupsOf(result, names);
  const ratios = groups.flatMap(({ cells }) => cells.map((cell) => cell?.ratio).filter(Boolean));
  const ticks = ticksAround(ratios);
  const [low, high] = [Math.log(ticks[0]), Math.log(ticks.at(-1))];
  const span = WIDTH - LABEL_WIDTH - VALUE_WIDTH;
  const place = (ratio) => LABEL_WIDTH + ((Math.log(ratio) - low) / (high - low)) * span;
  const legend = drawLegend(names);
  const groupHeight = names.length * BAR_HEIGHT + GROUP_GAP;
  const bottom = legend.bottom + groups.length * groupHeight;
  const { machine, rounds } = result;
  const subtitle =
    `Linux ${machine.kernel}, ${machine.cpu}, Node.js ${machine.node}, ` +
    `commit ${machine.commit}, ${machine.date.slice(0, 10)}, medians of ${rounds} round${rounds === 1 ? '' : 's'}`;
  const height = bottom + AXIS_HEIGHT;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" font-family="sans-serif" font-size="12" fill="${textColour}">`,
    text(16, 22, 'Ratio to the kernel’s own mount (less is better)', ' font-size="16"'),
    text(16, 41, subtitle, ' font-size="11"'),
    ...legend.parts,
    ...drawGrid(ticks, place, legend.bottom - 4, bottom),
    ...groups.flatMap((group, i) => drawGroup(group, legend.bottom + i * groupHeight, place)),
    '</svg>',
    '',
  ].join('\n');
}
