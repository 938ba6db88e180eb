import type { ServerResponse } from 'node:http';
import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { TEST_TOKENS } from '#libs/orchestrator/testing/tokens.js';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import { KubernetesOrchestrator } from './kubernetes.orchestrator.js';
import { FUNCTION, placementOf, workloadOf } from './testing/objects.js';
import { json, refuse, ScriptedApi } from './testing/scripted-api.js';

let server: ScriptedApi;
let orchestrator: KubernetesOrchestrator;

afterEach(async () => {
  await orchestrator.close();
  server.close();
});

const signal = AbortSignal.timeout(30_000);

/** On a cluster that has nothing of ours and says so; `answer` is given to everything but lists and watches. */
async function onEmptyCluster(answer: (response: ServerResponse) => void): Promise<void> {
  server = await ScriptedApi.open(({ method, url }, response) => {
    if (url.searchParams.has('watch')) {
      response.writeHead(200).flushHeaders();
      return;
    }
    if (method === 'GET' && !/[a-z]-[a-z2-7]{16}/.test(url.pathname)) {
      return json(response, 200, { metadata: { resourceVersion: '1' }, items: [] });
    }
    if (method === 'GET') return refuse(response, 404, 'NotFound', 'not found');
    return answer(response);
  });
  orchestrator = new KubernetesOrchestrator(
    placementOf().config,
    'me',
    TEST_TOKENS,
    pino({ level: 'silent' }),
    server.access,
  );
}

/** Of the function's objects, without the Events that tell of them. */
const tries = () =>
  server.asked.filter(({ method, url }) => method === 'PATCH' && !url.pathname.includes('/events/')).length;
const soon = () => workloadOf({ replaceEndedFrom: new Date(Date.now() + 60_000) });

describe('KubernetesOrchestrator', () => {
  it('tells what the cluster refuses, and asks again no sooner than the backoff says', async () => {
    await onEmptyCluster((response) => refuse(response, 403, 'Forbidden', 'exceeded quota: small'));
    const first = await orchestrator.ensure(workloadOf(), signal);
    expect(first).toMatchObject({
      ready: 0,
      endpoints: [],
      reason: { code: 'rejected', message: 'Kubernetes refused the function: exceeded quota: small' },
    });
    expect(tries()).toBe(1);
    for (let round = 0; round < 3; round += 1) {
      expect((await orchestrator.ensure(soon(), signal)).reason).toEqual(first.reason);
    }
    expect(tries()).toBe(1);
    await orchestrator.ensure(workloadOf({ replaceEndedFrom: new Date(Date.now() - 1) }), signal);
    expect(tries()).toBe(2);
  });

  it('tries another spec at once, whatever was refused before', async () => {
    await onEmptyCluster((response) => refuse(response, 422, 'Invalid', 'too much memory'));
    await orchestrator.ensure(workloadOf(), signal);
    await orchestrator.ensure({ ...soon(), revision: 8 }, signal);
    expect(tries()).toBe(2);
  });

  it('calls a conflict what it is, a moment in which others were faster', async () => {
    await onEmptyCluster((response) => refuse(response, 409, 'Conflict', 'the quota has been modified'));
    await expect(orchestrator.ensure(workloadOf(), signal)).rejects.toThrow(OrchestratorUnavailable);
  });

  it('says that a namespace is missing or ending', async () => {
    await onEmptyCluster((response) => refuse(response, 404, 'NotFound', 'namespaces "scadable-faas" not found'));
    const { reason } = await orchestrator.ensure(workloadOf(), signal);
    expect(reason).toMatchObject({ code: 'rejected', message: expect.stringContaining('"scadable-faas" not found') });
  });

  it.each<[string, () => Promise<unknown>]>([
    ['ping', () => orchestrator.ping(signal)],
    ['list', () => orchestrator.list(signal)],
    ['remove', () => orchestrator.remove(FUNCTION, 0, signal)],
    ['ensure', () => orchestrator.ensure(workloadOf(), signal)],
  ])('is unavailable, with the reason, to a %s that the cluster lets nobody do', async (_what, attempt) => {
    server = await ScriptedApi.open((_asked, response) =>
      refuse(response, 403, 'Forbidden', 'deployments is forbidden'),
    );
    orchestrator = new KubernetesOrchestrator(
      placementOf().config,
      'me',
      TEST_TOKENS,
      pino({ level: 'silent' }),
      server.access,
    );
    const attempted = attempt();
    await expect(attempted).rejects.toThrow(OrchestratorUnavailable);
    await expect(attempted).rejects.toThrow(/deployments is forbidden/);
  });

  it('takes no file that a ConfigMap can’t hold', async () => {
    await onEmptyCluster((response) => void response.end());
    expect(orchestrator.capabilities.largestCodeBytes).toBe(1_048_576);
  });
});
