const FEWEST = 3;
const MOST_DISCARDED = 3;

/**
 * Measures the sides in turn (A B A B …), so that whatever else the machine does hits all alike. Ends after `count`
 * rounds, or once `seconds` have passed and there are enough to say something; `--share` shortens both. A round in
 * which a call fails is noted and left out; several of them are a fault.
 */
export async function inTurn(stage, { count, seconds }, sides) {
  const { share } = stage;
  const until = performance.now() + seconds * share * 1000;
  const most = Math.max(FEWEST, Math.round(count * share));
  const rounds = [];
  let discarded = 0;
  while (rounds.length < most && (rounds.length < FEWEST || performance.now() < until)) {
    const round = {};
    let at;
    try {
      for (const [side, measure] of Object.entries(sides)) {
        at = side;
        round[side] = await measure();
      }
      rounds.push(round);
    } catch (error) {
      discarded += 1;
      if (discarded > MOST_DISCARDED || stage.undo.begun) throw error;
      stage.discarded.push(`${at}: ${error.message}`);
      console.log(`• A round was left out (${at}): ${error.message}`);
    }
  }
  return rounds;
}

/** The usual two sides. */
export function inPairs(stage, limits, ours, reference) {
  return inTurn(stage, limits, { ours, reference });
}
