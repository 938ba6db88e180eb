const TIME = /^\d{4}-\d\d-(\d\d)T\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/i;

/** The moment of a text in the form of RFC 3339; undefined: it has another form, or there is no such moment. */
export function timeOf(text: unknown): Date | undefined {
  const found = typeof text === 'string' ? TIME.exec(text.toUpperCase()) : null;
  if (found === null) return undefined;
  const [whole, day] = found;
  const time = new Date(whole);
  const year = time.getUTCFullYear();
  // A day that its month doesn't have is taken for one of the next month.
  const isDay = new Date(`${whole.slice(0, 10)}T00:00Z`).getUTCDate() === Number(day);
  return isDay && year >= 0 && year <= 9999 ? time : undefined;
}
