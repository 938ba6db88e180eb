import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pack } from 'tar-stream';
import { expect, it } from 'vitest';
import type { Layer } from '../layers.js';
import type { Observed } from '../workload.js';
import { IMPORTING } from './contract.handlers.js';
import { replicaIds } from './contract.replicas.js';
import type { Stage } from './contract.stage.js';

/** Layers that the suite has made, so that a fake engine can play them: the word of each by its digest. */
export const LAYER_WORDS = new Map<string, string>();

/** A layer with one package, which tells its word. */
export async function layerOf(word: string): Promise<Layer> {
  const digest = createHash('sha256').update(word).digest('hex');
  LAYER_WORDS.set(digest, word);
  const entries = pack();
  entries.entry({ name: 'contract_words', type: 'directory' });
  entries.entry({ name: 'contract_words/__init__.py' }, 'from .word import WORD\n');
  entries.entry({ name: 'contract_words/word.py' }, `WORD = "${word}"\n`);
  entries.finalize();
  const archive = await buffer(entries);
  const sha256 = createHash('sha256').update(archive).digest('hex');
  return {
    digest,
    open: () => Promise.resolve(Readable.from([archive])),
    describe: () => Promise.resolve({ sha256, bytes: archive.length, files: 2 }),
  };
}

export function layerBehaviour(stage: () => Stage): void {
  const prepared = async (word: string) => {
    const layer = await layerOf(`${word} of ${stage().owner}`);
    stage().harness.offer?.(layer);
    return layer;
  };
  const result = async (observed: Observed, at = 0) => (await stage().call(observed.endpoints[at], '')).body;

  it('has the code import the packages of its layer, in each replica', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(IMPORTING, { layer: await prepared('one'), replicas: 2 });
    const seen = await stage().settleReady(manager, workload);
    for (const at of [0, 1]) expect(await result(seen, at)).toEqual({ result: `one of ${stage().owner}` });
  });

  it('keeps a layer from functions that do not have it', async () => {
    const manager = await stage().manager();
    const first = stage().workload(IMPORTING, { layer: await prepared('one') });
    await stage().settleReady(manager, first);
    const { layer: _, ...without } = stage().workload(IMPORTING, { layer: first.layer });
    const seen = await stage().settle(manager, without, ({ reason }) => reason?.terminal === true);
    expect(seen.reason).toMatchObject({
      code: 'handler_not_loadable',
      message: expect.stringMatching('contract_words'),
    });
  });

  it('replaces replicas when the layer changes, with an endpoint that answers at every moment', async () => {
    const manager = await stage().manager();
    const former = stage().workload(IMPORTING, { layer: await prepared('one') });
    const before = await stage().settleReady(manager, former);
    const again = await stage().ensure(manager, { ...former, layer: await prepared('one') });
    expect(replicaIds(again)).toEqual(replicaIds(before));

    const next = { ...former, layer: await prepared('two') };
    const answers = new Set<unknown>();
    await stage().until(
      'the new packages alone are there',
      async () => {
        const observed = await stage().ensure(manager, next);
        expect(observed.endpoints.length).toBeGreaterThan(0);
        for (const endpoint of observed.endpoints) {
          answers.add(((await stage().call(endpoint, '')).body as { result: unknown }).result);
        }
        return observed;
      },
      (observed) => observed.ready === 1 && !replicaIds(observed).some((id) => replicaIds(before).includes(id)),
    );
    const { owner } = stage();
    expect([...answers].filter((answer) => answer !== `one of ${owner}`)).toEqual([`two of ${owner}`]);
  });
}
