const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/i;

/** The moment of a text in the form of RFC 3339; undefined: it has another form, or there is no such moment. */
export function timeOf(text: unknown): Date | undefined {
  const time = typeof text === 'string' && TIME.test(text) ? new Date(text.toUpperCase()) : undefined;
  return time !== undefined && !Number.isNaN(time.getTime()) ? time : undefined;
}
