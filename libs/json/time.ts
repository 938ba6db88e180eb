const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/i;

/** The moment of a text in the form of RFC 3339; undefined: it has another form, or there is no such moment. */
export function timeOf(text: unknown): Date | undefined {
  const found = typeof text === 'string' ? TIME.exec(text.toUpperCase()) : null;
  if (found === null) return undefined;
  const [whole] = found;
  const time = new Date(whole);
  const year = time.getUTCFullYear();
  return hasDay(whole) && year >= 0 && year <= 9999 ? time : undefined;
}

/** Whether there is the day of a time: `Date` takes one that its month doesn't have for one of the next month. */
export function hasDay(time: string): boolean {
  return new Date(`${time.slice(0, 10)}T00:00Z`).getUTCDate() === Number(time.slice(8, 10));
}
