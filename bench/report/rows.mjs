import { quantileOf, spread } from './statistics.mjs';

/** Takes one number out of both sides of a pair. */
export function pick(value) {
  return ({ ours, reference }) => ({ ours: value(ours), reference: value(reference) });
}

/**
 * One line of the table. The ratio and the difference are taken within each pair, then summed up: what disturbed one
 * pair, or slowed the machine for a while, leaves them alone.
 */
export function makeRow(pairs, { figure, reference, unit, quantile = 0.5, difference = false, target, meets }) {
  const row = {
    figure,
    unit,
    ours: quantileOf(
      pairs.map((pair) => pair.ours),
      quantile,
    ),
    against: reference,
    reference: quantileOf(
      pairs.map((pair) => pair.reference),
      quantile,
    ),
    // Of the slow end there is one number for a whole run, so there is nothing to pair.
    ...(quantile === 0.5 ? { ratio: spread(pairs.map((pair) => pair.ours / pair.reference)) } : {}),
    ...(difference ? { difference: spread(pairs.map((pair) => pair.ours - pair.reference)) } : {}),
    pairs: pairs.length,
  };
  return target === undefined ? row : { ...row, target, met: meets(row) };
}
