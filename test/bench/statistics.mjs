// Medians, spread and ratios. A ratio says how many times the kernel's time (or memory) it is, for
// rates as well: above 1 is always worse than the kernel.

/** The middle of the numbers; NaN when there are none. */
export function median(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Median and range of the samples of one cell. */
export function summarize(samples) {
  return { median: median(samples), min: Math.min(...samples), max: Math.max(...samples) };
}

/** Gives every cell of a measurement its ratio to the kernel's, where both are above 0. */
export function addRatios(measurement) {
  const reference = measurement.cells.find((cell) => cell.mount === 'kernel')?.median;
  const isRate = measurement.unit.endsWith('/s');
  for (const cell of measurement.cells)
    if (reference > 0 && cell.median > 0)
      cell.ratio = isRate ? reference / cell.median : cell.median / reference;
  return measurement;
}
