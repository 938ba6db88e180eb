import { WorkerTokens } from '../worker-tokens.js';

/** Of all test installations, which have no database to keep a key in. */
export const TEST_TOKENS = new WorkerTokens(Buffer.alloc(32, 'test'));
