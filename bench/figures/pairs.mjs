const FEWEST = 3;

/**
 * Measures ours and the reference in turn (A B A B …), so that whatever else the machine does hits both alike. Ends
 * after `count` pairs, or once `seconds` have passed and there are enough to say something.
 */
export async function inPairs({ count, seconds }, ours, reference) {
  const until = performance.now() + seconds * 1000;
  const pairs = [];
  while (pairs.length < count && (pairs.length < FEWEST || performance.now() < until)) {
    pairs.push({ ours: await ours(), reference: await reference() });
  }
  return pairs;
}
