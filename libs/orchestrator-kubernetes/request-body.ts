/**
 * The API server reads an applied object as YAML. JSON is YAML, except for what YAML takes for the end of a line, and
 * folds, or refuses as a control character: those are written as escapes, so that code arrives byte for byte.
 */
const NOT_AS_JSON_HAS_IT = /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g;

export function requestBody(value: unknown): string {
  return JSON.stringify(value).replace(
    NOT_AS_JSON_HAS_IT,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
