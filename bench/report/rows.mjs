import { quantileOf, spread } from './statistics.mjs';

/** Takes one number out of both sides of a pair. */
export function pick(value) {
  return ({ ours, reference }) => ({ ours: value(ours), reference: value(reference) });
}

/**
 * One line of the table. The ratio and the difference are taken within each pair, then summed up: what disturbed one
 * pair, or slowed the machine for a while, leaves them alone. A side may be several measurements of one round.
 */
export function makeRow(pairs, { figure, reference, unit, quantile = 0.5, difference = false, target, meets }) {
  const middles = pairs.map(pick((side) => quantileOf([side].flat(), 0.5)));
  const row = {
    figure,
    unit,
    ours: quantileOf(
      pairs.flatMap((pair) => pair.ours),
      quantile,
    ),
    against: reference,
    reference: quantileOf(
      pairs.flatMap((pair) => pair.reference),
      quantile,
    ),
    // Of the slow end there is one number for a whole run, so there is nothing to pair.
    ...(quantile === 0.5 ? { ratio: spread(middles.map((pair) => pair.ours / pair.reference)) } : {}),
    ...(difference ? { difference: spread(middles.map((pair) => pair.ours - pair.reference)) } : {}),
    pairs: pairs.length,
  };
  return judged(row, { target, meets });
}

/** A line of what needs no reference, because the target is a number of things. */
export function countRow({ figure, unit, ours, target, meets }) {
  return judged({ figure, unit, ours }, { target, meets });
}

/** The target as words, and whether the line reaches it. */
function judged(row, { target, meets }) {
  return target === undefined ? row : { ...row, target, met: meets(row) };
}
