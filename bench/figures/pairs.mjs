/** Even, so that each is first as often as the other. */
const STARTS = 4;
/** Until Node has compiled what calls need. */
export const COMPILED_SECONDS = 6;
const FEWEST = 3;
const MOST_DISCARDED = 3;

/**
 * Measures the sides in turn (A B B A …), so that whatever else the machine does hits all alike, as does what one of
 * them leaves the next to bear. Ends after `count` rounds, or once `seconds` have passed and there are enough to say
 * something; `--share` shortens both. A round in which a call fails is noted and left out; several of them are a fault.
 */
export async function inTurn(stage, { count, seconds }, sides) {
  const { share } = stage;
  const until = performance.now() + seconds * share * 1000;
  const most = Math.max(FEWEST, Math.round(count * share));
  const rounds = [];
  let discarded = 0;
  const order = Object.entries(sides);
  while (rounds.length < most && (rounds.length < FEWEST || performance.now() < until)) {
    const round = {};
    let at;
    try {
      for (const [side, measure] of order) {
        at = side;
        round[side] = await measure();
      }
      rounds.push(round);
      order.reverse();
    } catch (error) {
      discarded += 1;
      if (discarded > MOST_DISCARDED || stage.undo.begun) throw error;
      stage.discarded.push(`${at}: ${error.message}`);
      console.log(`• A round was left out (${at}): ${error.message}`);
    }
  }
  return rounds;
}

/**
 * The same program started twice may differ by a tenth, by what Node has compiled and how. So where two programs are
 * compared each is started several times, with the other one first every second time. Answers what all starts have measured.
 */
export async function overStarts(stage, measure) {
  const found = [];
  for (let start = 0; start < Math.max(1, Math.round(STARTS * stage.share)); start += 1) {
    found.push(await stage.part((part) => measure(part, start % 2 === 1)));
  }
  return found;
}

/** The usual two sides. */
export function inPairs(stage, limits, ours, reference) {
  return inTurn(stage, limits, { ours, reference });
}
