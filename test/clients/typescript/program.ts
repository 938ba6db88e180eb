// What a user of the client that openapi-generator's typescript-fetch generates writes. Says what it saw, as JSON.
import { readFile } from 'node:fs/promises';
import { Configuration, ExecutionApi, FunctionsApi, type Problem, ResponseError } from './client/index.js';

const [url, key, handler, texts] = process.argv.slice(2) as [string, string, string, string];
const payloads = JSON.parse(texts) as string[];
const configuration = new Configuration({ basePath: url, apiKey: key });
const functions = new FunctionsApi(configuration);
const execution = new ExecutionApi(configuration);

async function problemOf(call: Promise<unknown>): Promise<Problem> {
  try {
    await call;
  } catch (error) {
    if (error instanceof ResponseError) return (await error.response.json()) as Problem;
    throw error;
  }
  throw new Error('It did not fail.');
}

const pythonFile = new Blob([await readFile(handler)]);
const added = await functions.addFunction({ pythonFile, functionName: 'handle', concurrency: 4 });
const { id } = added;
const results: unknown[] = [];
for (const payload of payloads) {
  results.push((await execution.executeFunction({ id, executeRequestDto: { payload } })).result);
}
const raised = await problemOf(execution.executeFunction({ id, executeRequestDto: { payload: 'raise' } }));
const detail = await functions.getFunction({ id });
const listed = await functions.listFunctions({ limit: 10 });
const removed = await functions.removeFunctionRaw({ id });
const missing = await problemOf(functions.getFunction({ id }));
const invalid = await problemOf(functions.addFunction({ pythonFile: new Blob([]), functionName: 'f' }));

process.stdout.write(
  JSON.stringify({
    status: added.status,
    concurrency: added.concurrency,
    results,
    raised: {
      status: raised.status,
      code: raised.code,
      python_type: raised.python_type,
      python_message: raised.python_message,
    },
    detail: { last_error: detail.last_error, max_replicas: detail.max_replicas },
    listed: listed.map((one) => one.function_name),
    removed: removed.raw.status,
    missing: missing.code,
    invalid: { code: invalid.code, field: invalid.field },
  }),
);
