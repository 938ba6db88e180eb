import type Docker from 'dockerode';
import type { ContainerCreateOptions } from 'dockerode';
import { connectDocker } from '#libs/orchestrator-docker/create-docker-orchestrator.js';
import { LABEL } from '#libs/orchestrator-docker/labels.js';
import type { Stage } from '#libs/orchestrator/testing/contract.stage.js';
import { afterEach, describe, expect, it } from 'vitest';
import { dockerStage, endStage, python } from './support/docker-stage.js';
import { docker, openDocker, POOL, testConfig, whyNoDocker, WORKER_IMAGE } from './support/docker-tests.js';

const reason = await whyNoDocker(WORKER_IMAGE);
const ECHO = python('def handle(payload: str):\n    return payload\n');

interface Asked {
  readonly _query: { readonly name: string };
  readonly _body: ContainerCreateOptions;
}

/** The engine as a manager used it that knew of no tokens, and published every port. */
function formerly(): Docker {
  const former = connectDocker();
  const create = former.createContainer.bind(former) as (asked: Asked) => Promise<Docker.Container>;
  const asBefore = ({ _body: { Env, Labels, HostConfig, ...rest }, ...more }: Asked) => {
    const variables = (Env ?? []).filter((variable) => !variable.startsWith('FAAS_CALL_SHA256='));
    const labels = Object.fromEntries(Object.entries(Labels ?? {}).filter(([name]) => name !== LABEL.credential));
    const ports = { '8000/tcp': [{ HostIp: '127.0.0.1', HostPort: '' }] };
    const host = { ...HostConfig, PortBindings: ports };
    return create({ ...more, _body: { ...rest, Env: variables, Labels: labels, HostConfig: host } });
  };
  return Object.assign(former, { createContainer: asBefore });
}

describe.skipIf(reason !== undefined)('A worker that a former version has started', { timeout: 60_000 }, () => {
  let stage: Stage;
  afterEach(() => endStage(stage));

  it.each([
    ['with its function', undefined],
    ['from the warm pool', POOL],
  ])('is adopted as it is, %s, and called without a token', async (_which, pool) => {
    const config = testConfig();
    stage = dockerStage(config, formerly, pool);
    const workload = stage.workload(ECHO);
    const before = await stage.settleReady(await stage.manager(), workload);
    expect((await docker.getContainer(before.primary).inspect()).Config.Env.join()).not.toContain('FAAS_CALL');
    const present = openDocker(config, stage.owner);
    try {
      const seen = await stage.settleReady(present, workload);
      expect(seen.primary).toBe(before.primary);
      expect(seen.endpoints).toMatchObject([{ guard: 'worker' }]);
      expect(seen.endpoints[0]).not.toHaveProperty('credential');
      expect((await stage.call(seen.endpoints[0], 'x')).body).toEqual({ result: 'x' });
      // Beside it stands one that knows its managers.
      const two = await stage.settleReady(present, { ...workload, replicas: 2 });
      expect(two.endpoints.filter(({ credential }) => credential !== undefined)).toHaveLength(1);
      for (const endpoint of two.endpoints) {
        expect((await stage.call(endpoint, 'x')).body).toEqual({ result: 'x' });
      }
    } finally {
      await present.close();
    }
  });
});
