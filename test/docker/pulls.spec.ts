import type { Stage } from '#libs/orchestrator/testing/contract.stage.js';
import { answering } from '#libs/orchestrator/testing/contract.handlers.js';
import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { dockerStage, endStage } from './support/docker-stage.js';
import { docker, testConfig, whyNoDocker, WORKER_IMAGE } from './support/docker-tests.js';
import { Registry } from './support/registry.js';

const LOGIN = { username: 'robot', password: 'not-to-be-seen' };
const REPOSITORY = `team/worker-${randomBytes(3).toString('hex')}`;
const reason = await whyNoDocker(WORKER_IMAGE);

describe.skipIf(reason !== undefined)('a worker image that only a registry has', { timeout: 120_000 }, () => {
  let registry: Registry;
  let stage: Stage;
  beforeAll(async () => {
    registry = await Registry.serving(WORKER_IMAGE, REPOSITORY, LOGIN);
  }, 120_000);
  afterEach(() => endStage(stage));
  afterAll(async () => {
    await docker.getImage(image()).remove();
    await registry.close();
  });
  const image = () => `${registry.host}/${REPOSITORY}:1`;
  const stageWith = (password: string) =>
    dockerStage(testConfig({ image: image(), registry: { url: `http://${registry.host}`, ...LOGIN, password } }));

  it('is asked for with the login, and why it is refused is told without it', async () => {
    stage = stageWith('another-secret');
    const workload = stage.workload(answering('pulled'));
    const manager = await stage.manager();
    const { reason: fault } = await stage.settle(manager, workload, (seen) => seen.reason?.code !== 'starting');
    expect(fault).toMatchObject({ code: 'image_unavailable', terminal: false });
    expect(fault?.message).toContain(image());
    expect(JSON.stringify(fault)).not.toContain('another-secret');
    expect(registry.requests.every((line) => line.startsWith('401 '))).toBe(true);
  });

  it('is pulled with the login, once for all functions that wait for it, and runs them', async () => {
    stage = stageWith(LOGIN.password);
    const manager = await stage.manager();
    const workloads = ['one', 'two'].map((word) => stage.workload(answering(word)));
    const seen = await Promise.all(workloads.map((workload) => stage.settleReady(manager, workload)));
    for (const [index, word] of ['one', 'two'].entries()) {
      expect((await stage.call(seen[index]?.endpoints[0], 'x')).body).toEqual({ result: `${word}:x` });
    }
    const manifests = registry.requests.filter((line) => line.startsWith('200 ') && line.includes('/manifests/'));
    // By its tag, and then perhaps by the digest that this names.
    expect(manifests.filter((line) => line.endsWith('/manifests/1'))).not.toEqual([]);
    expect(new Set(manifests).size).toBe(manifests.length);
  });
});
