/** By linear interpolation, of values in ascending order. */
export function quantile(sorted, q) {
  const at = (sorted.length - 1) * q;
  const below = Math.floor(at);
  const low = sorted[below];
  const high = sorted[Math.min(below + 1, sorted.length - 1)];
  return low + (high - low) * (at - below);
}

/** The middle, and the quarters around it: half of all values lie between `low` and `high`. */
export function spread(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return {
    median: rounded(quantile(sorted, 0.5)),
    low: rounded(quantile(sorted, 0.25)),
    high: rounded(quantile(sorted, 0.75)),
  };
}

export function quantileOf(values, q) {
  return rounded(
    quantile(
      values.toSorted((a, b) => a - b),
      q,
    ),
  );
}

function rounded(value) {
  return Math.round(value * 1000) / 1000;
}
