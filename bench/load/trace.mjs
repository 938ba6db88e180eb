/**
 * Calls as public traces of such platforms show them: Shahrad et al., "Serverless in the Wild" (USENIX ATC 2020), on
 * Azure's, report that four fifths of the applications are called once a minute at most, almost half of them once an
 * hour at most, that less than a fifth makes nearly all calls, and that timers fire many at full minutes. Here the rank of
 * a function gives its share of the calls by Zipf's law, and at each full minute, which lasts a few seconds, a number of
 * functions out of all is called at once. The same seed gives the same calls.
 */
export function* traceOf({ functions, perSecond, seconds, minuteSeconds, peak, seed }) {
  const random = randomFrom(seed);
  let full = 0;
  for (let at = 0; ; at += -Math.log(1 - random()) / perSecond) {
    for (; full <= Math.min(at, seconds); full += minuteSeconds) {
      for (let count = 0; count < peak; count += 1) yield { at: full, rank: Math.floor(random() * functions) };
    }
    if (at > seconds) return;
    yield { at, rank: zipf(functions, random()) };
  }
}

/** Of `functions` ranks, the one that this random number means: rank r has a share of the calls in proportion to 1 / r. */
function zipf(functions, random) {
  return Math.min(functions, Math.floor((functions + 1) ** random)) - 1;
}

/** mulberry32, a well-known generator of 32 bits: fast, seeded, good enough for loads. */
function randomFrom(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
