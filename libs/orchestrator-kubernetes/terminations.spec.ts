import type { V1ContainerState } from '@kubernetes/client-node';
import { afterEach, describe, expect, it } from 'vitest';
import { Terminations } from './terminations.js';
import { KubeApi } from './kube-api.js';
import { replicasOf } from './replica.js';
import { at, podOf, type PodWish } from './testing/objects.js';
import { refuse, ScriptedApi } from './testing/scripted-api.js';

const REPORT = '{"faas": "handler_not_loadable", "type": "NameError", "message": "x is gone", "line": 3}';

let api: ScriptedApi | undefined;
afterEach(() => api?.close());

async function endingsOn(answer: Parameters<typeof ScriptedApi.open>[0]): Promise<Terminations> {
  api = await ScriptedApi.open(answer);
  return new Terminations(new KubeApi(api.access, 'functions'));
}

const logging = (log: string) => endingsOn((_asked, response) => void response.end(log));
const replica = (wish: PodWish) => replicasOf([podOf(wish)], [])[0]!;
const never = new AbortController().signal;

function terminated(changes: object = {}): V1ContainerState {
  return {
    terminated: {
      exitCode: 65,
      reason: 'Error',
      containerID: 'containerd://ended',
      startedAt: at('2026-06-01T12:00:01Z'),
      finishedAt: at('2026-06-01T12:00:09Z'),
      ...changes,
    },
  };
}

describe('Terminations', () => {
  it('has nothing to tell of a replica that never ended', async () => {
    expect(await (await logging('')).of(replica({}), never)).toBeUndefined();
    expect(api?.asked).toEqual([]);
  });

  it('reads in the log of the container that ended why it did, and reads it once', async () => {
    const terminations = await logging(`starting\n${REPORT}\n`);
    const crashed = replica({ lastState: terminated(), restarts: 1 });
    const fault = await terminations.of(crashed, never);
    expect(fault).toMatchObject({
      code: 'handler_not_loadable',
      message: 'NameError: x is gone',
      line: 3,
      terminal: true,
    });
    expect(fault?.at).toEqual(new Date('2026-06-01T12:00:09Z'));
    expect(await terminations.of(crashed, never)).toBe(fault);
    expect(api?.asked.map(({ url }) => url.searchParams.get('previous'))).toEqual(['true']);
  });

  it.each([
    ['nothing of one that was let go', 0, undefined],
    ['of one that a handler took down what it tells of any', 1, 'worker_crashed'],
  ])('tells of a pod of the pool %s', async (_what, exitCode, code) => {
    const labels = { 'faas.pool': 'true' };
    const ended = replica({ state: terminated({ exitCode }), status: { phase: 'Failed' }, metadata: { labels } });
    expect((await (await logging('bye\n')).of(ended, never))?.code).toBe(code);
  });

  it('reads the present log of a container that isn’t restarted yet', async () => {
    await (await logging('bye\n')).of(replica({ state: terminated({ exitCode: 1 }) }), never);
    expect(api?.asked[0]?.url.searchParams.has('previous')).toBe(false);
  });

  it('knows an end by memory from any other kill', async () => {
    const killed = (reason: string) => replica({ state: terminated({ exitCode: 137, reason, containerID: reason }) });
    const terminations = await logging('');
    expect(await terminations.of(killed('OOMKilled'), never)).toMatchObject({ code: 'out_of_memory' });
    expect(await terminations.of(killed('Error'), never)).toMatchObject({
      code: 'worker_crashed',
      message: expect.stringContaining('SIGKILL'),
    });
  });

  it.each<[string, Parameters<typeof ScriptedApi.open>[0]]>([
    ['is gone', (_asked, response) => refuse(response, 404, 'NotFound', 'no log')],
    [
      'hangs on a node that is cut off',
      (_asked, response) => refuse(response, 500, 'InternalError', 'dial tcp: timeout'),
    ],
    ['breaks off', (_asked, response) => void response.destroy()],
    ['is empty', (_asked, response) => void response.end('')],
  ])('takes what the cluster itself kept when the log %s', async (_what, answer) => {
    const terminations = await endingsOn(answer);
    const fault = await terminations.of(replica({ state: terminated({ message: REPORT }) }), never);
    expect(fault).toMatchObject({ code: 'handler_not_loadable', message: 'NameError: x is gone' });
  });

  it('stops reading when the caller does', async () => {
    const leaving = new AbortController();
    const terminations = await endingsOn(() => leaving.abort(new Error('enough')));
    await expect(terminations.of(replica({ state: terminated() }), leaving.signal)).rejects.toThrow('enough');
  });

  it.each<[string, PodWish['status']]>([
    ['with its containers', { phase: 'Failed', reason: 'Evicted', message: 'The node was low on memory.' }],
    [
      'without any',
      { phase: 'Failed', reason: 'Evicted', message: 'The node was low on memory.', containerStatuses: [] },
    ],
  ])('tells in the node’s words why it evicted a pod %s', async (_what, status) => {
    const fault = await (await logging('noise')).of(replica({ state: terminated({ exitCode: 137 }), status }), never);
    expect(fault).toMatchObject({
      code: 'worker_crashed',
      terminal: false,
      message: "The worker's pod was ended: Evicted: The node was low on memory.",
    });
    expect(Number.isNaN(fault?.at.getTime())).toBe(false);
    expect(api?.asked).toEqual([]);
  });
});
