const FEWEST = 3;
const MOST_DISCARDED = 3;

/**
 * Measures ours and the reference in turn (A B A B …), so that whatever else the machine does hits both alike. Ends
 * after `count` pairs, or once `seconds` have passed and there are enough to say something. A pair in which a call
 * fails is noted and left out; several of them are a fault.
 */
export async function inPairs(stage, { count, seconds }, ours, reference) {
  const until = performance.now() + seconds * 1000;
  const pairs = [];
  let discarded = 0;
  while (pairs.length < count && (pairs.length < FEWEST || performance.now() < until)) {
    let side = 'ours';
    try {
      const first = await ours();
      side = 'reference';
      pairs.push({ ours: first, reference: await reference() });
    } catch (error) {
      discarded += 1;
      if (discarded > MOST_DISCARDED || stage.undo.begun) throw error;
      stage.discarded.push(`${side}: ${error.message}`);
      console.log(`• A pair was left out (${side}): ${error.message}`);
    }
  }
  return pairs;
}
