import { readFileSync } from 'node:fs';

const PAYLOAD = 'hello';

/** What is uploaded: a file and the handler in it. */
export const ECHO = { code: readFileSync(new URL('handlers.py', import.meta.url)), handler: 'handle' };

/** A call of any of its handlers, and the answer it must give. */
export const ECHO_CALL = { body: JSON.stringify({ payload: PAYLOAD }), result: PAYLOAD };
