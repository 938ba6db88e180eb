/** Python 3's reserved words: the language reference, section 2.3.1. Soft keywords may name a function. */
const KEYWORDS = new Set(
  `False None True and as assert async await break class continue def del elif else except finally for from global if
   import in is lambda nonlocal not or pass raise return try while with yield`.split(/\s+/),
);

/** The Unicode identifiers of the language reference, section 2.3. */
const IDENTIFIER = /^[\p{XID_Start}_][\p{XID_Continue}]*$/u;

export const LONGEST_NAME = 200;

/** A name as Python looks it up: identifiers are compared in normal form KC. */
export function asPythonReads(name: string): string {
  return name.normalize('NFKC');
}

/** The name as Python will look it up, or why it can't name a function. */
export function parseFunctionName(text: string): { name: string } | { fault: string } {
  const name = asPythonReads(text);
  if (name === '') return { fault: 'function_name is empty: give the name of the function inside the file.' };
  if (name.length > LONGEST_NAME) return { fault: `function_name is longer than ${LONGEST_NAME} characters.` };
  if (!IDENTIFIER.test(name)) {
    return {
      fault: `function_name ${JSON.stringify(text)} is not a Python identifier: give the bare name, such as handle.`,
    };
  }
  if (KEYWORDS.has(name)) return { fault: `function_name ${name} is a Python keyword.` };
  return { name };
}
