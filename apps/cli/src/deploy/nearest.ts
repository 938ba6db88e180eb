const MOST_EDITS = 3;

/** The known word that a typo most likely meant. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const ranked = known
    .map((one) => ({ one, edits: edits(word, one) }))
    .filter(({ one, edits }) => edits <= Math.min(MOST_EDITS, Math.floor(one.length / 2)))
    .toSorted((a, b) => a.edits - b.edits);
  return ranked[0]?.one;
}

/** Characters to add, drop or change (Levenshtein). */
function edits(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (const [i, one] of [...from].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...to].entries()) {
      const [left = 0, above = 0, across = 0] = [next[j], row[j + 1], row[j]];
      next.push(Math.min(left + 1, above + 1, across + (one === other ? 0 : 1)));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
