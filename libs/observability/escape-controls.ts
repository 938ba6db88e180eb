/**
 * What a terminal would obey, or what could pass for the end of a line: C0 and C1 controls, DEL, line and paragraph
 * separators, marks that turn the direction of writing, and halves of surrogate pairs.
 */
const UNPLAIN = /[\p{Cc}\p{Cs}\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** Text of a peer fit to be logged: at most `most` characters, on one line, with what isn't plain as `\uXXXX`. */
export function escapeControls(text: string, most: number): string {
  const cut = text.length > most ? `${text.slice(0, most - 1)}…` : text;
  return cut.replace(UNPLAIN, escaped);
}

/** The same marks in JSON text, where they stand in strings only and an escape means the same. */
export function escapeControlsInJson(json: string): string {
  return json.replace(UNPLAIN, (character) => (character === '\n' ? character : escaped(character)));
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
