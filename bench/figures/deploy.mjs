import { makeRow, pick } from '../report/rows.mjs';
import { ECHO } from '../reference/handlers.mjs';
import { inPairs } from './pairs.mjs';

const PAIRS = { count: 20, seconds: 45 };
const GIVE_UP_MS = 60_000;

/** From the first byte of an upload to the answer of the first successful call, beside a worker started by hand. */
export async function measureDeploy(stage) {
  const manager = await stage.manager();
  const deploy = async () => {
    const began = performance.now();
    const id = await manager.upload(ECHO);
    await untilCalled(manager, id, began + GIVE_UP_MS);
    const took = performance.now() - began;
    await manager.remove(id);
    return took;
  };
  const byHand = async () => {
    const began = performance.now();
    const bare = await stage.engine.startBare(ECHO);
    const took = performance.now() - began;
    await bare.end();
    return took;
  };
  await deploy();
  await byHand();
  const pairs = await inPairs(stage, PAIRS, deploy, byHand);
  const rows = [0.5, 0.95].map((q) =>
    makeRow(pairs, {
      figure: `deploy on ${stage.engine.name}: upload to first answer, p${q * 100}`,
      reference: 'worker started by hand, until healthy',
      unit: 'ms',
      quantile: q,
    }),
  );
  return { rows, pairs: pairs.map(pick((ms) => Math.round(ms))) };
}

async function untilCalled(manager, id, giveUpAt) {
  for (;;) {
    const { status, text } = await manager.call(id, 'hello');
    if (status === 200) return;
    if (performance.now() > giveUpAt) throw new Error(`The function never answered: ${status} ${text}`);
  }
}
