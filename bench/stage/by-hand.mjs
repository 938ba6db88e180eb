import { randomBytes } from 'node:crypto';
import { oneTimeToken } from '#libs/orchestrator/generic-worker.js';
import { tokenHeader, WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import { Client } from 'undici';

const tokens = new WorkerTokens(randomBytes(32));

/** How many milliseconds a worker without a manager takes until it is healthy; it is ended again. */
export async function startByHand(engine, file) {
  const began = performance.now();
  const bare = await engine.startBare(file);
  const took = performance.now() - began;
  await bare.end();
  return Math.round(took * 10) / 10;
}

/**
 * How many milliseconds it takes to give a worker that waits its function, and to call it: three requests over one
 * connection, of which the second asks whether it has loaded. It is made before that, and ended again.
 */
export async function wakeByHand(engine, { code, handler }, { body, result }) {
  const [once, call] = [oneTimeToken(), tokens.issue()];
  const worker = await engine.startGeneric({
    FAAS_SPECIALISE_SHA256: once.sha256,
    FAAS_CALL_SHA256: call.sha256,
    FAAS_GENERIC_LEASE_MS: '60000',
  });
  const { origin, socketPath } = worker.target('/');
  const client = new Client(origin, socketPath === undefined ? {} : { connect: { socketPath } });
  const ask = async (method, path, headers, content) => {
    const answer = await client.request({ method, path, headers, body: content });
    return { status: answer.statusCode, text: await answer.body.text() };
  };
  try {
    const environment = { HANDLER_FUNCTION: `function.handler.${handler}`, FAAS_FUNCTION: 'bench' };
    const own = tokenHeader(call.token);
    const began = performance.now();
    const given = await ask(
      'POST',
      '/specialise',
      { Authorization: `Bearer ${once.token}` },
      JSON.stringify({ environment, code: code.toString('base64') }),
    );
    const health = await ask('GET', '/health', own);
    const answer = await ask('POST', '/', { ...own, 'Content-Type': 'application/json' }, body);
    const took = performance.now() - began;
    if (answer.status !== 200 || JSON.parse(answer.text).result !== result) {
      throw new Error(`A worker by hand answered ${given.status}, ${health.status}, ${answer.status}: ${answer.text}`);
    }
    return Math.round(took * 1000) / 1000;
  } finally {
    await client.destroy();
    await worker.end();
  }
}
