import { readFileSync } from 'node:fs';

const PAYLOAD = 'hello';
const read = (name) => readFileSync(new URL(name, import.meta.url));
const code = read('handlers.py');

/** What is uploaded: a file and the handler in it. */
export const ECHO = { code, handler: 'handle' };

/** Takes 100 ms and no processor. */
export const SLEEP = { code, handler: 'sleep_async' };

/** As long on the average. Calls that all take the same time would march in step, which they don't in life. */
export const UNEVEN = { code, handler: 'uneven_async' };

/** A call of any of its handlers, and the answer it must give. */
export const ECHO_CALL = { body: JSON.stringify({ payload: PAYLOAD }), result: PAYLOAD };

/** A web application that needs no package, and the files to run it by uvicorn alone. */
export const WEB_APP = { code: read('web_app.py'), handler: 'app' };
export const WEB_APP_ALONE = { 'plain_fastapi.py': WEB_APP.code };

/** The plain routes and what they import. */
export const PLAIN_ROUTES = { 'plain_fastapi.py': read('plain_fastapi.py'), 'handlers.py': code };
