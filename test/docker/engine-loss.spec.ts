import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import type { Stage } from '#libs/orchestrator/testing/contract.stage.js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CuttableEngine } from './support/cuttable-engine.js';
import { dockerStage, endStage, python } from './support/docker-stage.js';
import { docker, testConfig, whyNoDocker, WORKER_IMAGE } from './support/docker-tests.js';

const ECHO = python('def handle(payload: str):\n    return payload\n');
const reason = await whyNoDocker(WORKER_IMAGE);

describe.skipIf(reason !== undefined)(
  'Docker provider: the engine goes away and comes back',
  { timeout: 60_000 },
  () => {
    let engine: CuttableEngine;
    let stage: Stage;
    beforeEach(async () => {
      engine = new CuttableEngine();
      await engine.mend();
      stage = dockerStage(testConfig(), () => engine.connect());
    });
    afterEach(async () => {
      await endStage(stage);
      await engine.close();
    });

    it('says that the engine can’t be reached, whatever it is asked, and recovers by itself', async () => {
      const manager = await stage.manager();
      const workload = stage.workload(ECHO);
      const before = await stage.settleReady(manager, workload);
      await engine.cut();
      await expect(manager.ping(stage.signal())).rejects.toThrow(OrchestratorUnavailable);
      await expect(stage.ensure(manager, workload)).rejects.toThrow(OrchestratorUnavailable);
      await expect(stage.list(manager)).rejects.toThrow(OrchestratorUnavailable);
      await expect(stage.remove(manager, workload.functionId)).rejects.toThrow(OrchestratorUnavailable);
      await expect(stage.logOf(manager, workload.functionId)).rejects.toThrow(OrchestratorUnavailable);
      expect((await stage.call(before.endpoints[0], 'x')).body).toEqual({ result: 'x' });

      await engine.mend();
      await manager.ping(stage.signal());
      const after = await stage.ensure(manager, workload);
      expect(after).toMatchObject({ ready: 1, primary: before.primary });
    });

    it('follows the events again after a cut, and says that anything may have changed', async () => {
      const manager = await stage.manager();
      const workload = stage.workload(ECHO);
      const before = await stage.settleReady(manager, workload);
      const heard: (string | undefined)[] = [];
      const stop = new AbortController();
      const watching = manager.watch((functionId) => heard.push(functionId), stop.signal);
      await engine.cut();
      await docker.getContainer(before.primary).kill();
      await engine.mend();
      const hears = (what: string | undefined) =>
        stage.until(
          `the watch says ${what}`,
          () => Promise.resolve(heard),
          (all) => all.includes(what),
        );
      await hears(undefined);
      const after = await stage.settleReady(manager, workload);
      expect(after.primary).not.toBe(before.primary);
      heard.length = 0;
      await docker.getContainer(after.primary).kill();
      await hears(workload.functionId);
      stop.abort();
      await watching;
    });

    it('gives up waiting for an engine that says nothing', async () => {
      const manager = await stage.manager();
      engine.mute = true;
      const asked = Date.now();
      await expect(manager.ping(AbortSignal.timeout(30_000))).rejects.toThrow(/no answer/);
      expect(Date.now() - asked).toBeLessThan(10_000);
      await expect(manager.list(AbortSignal.timeout(200))).rejects.toThrow();
      engine.mute = false;
      await engine.cut();
      await engine.mend();
      await manager.ping(stage.signal());
    });

    it('repairs whatever a step left half-done when the engine went away in its midst', async () => {
      const manager = await stage.manager();
      for (const afterMs of [5, 15, 30, 60, 120, 250, 400]) {
        const workload = stage.workload(ECHO, { replicas: 2 });
        const step = stage.ensure(manager, workload).catch((error: unknown) => error);
        await new Promise((resolve) => setTimeout(resolve, afterMs));
        await engine.cut();
        await step;
        await engine.mend();
        // Kept connections that were cut may fail once more each before it is noticed.
        const pings = () => Promise.all(Array.from({ length: 8 }, () => manager.ping(stage.signal())));
        const answers = () =>
          pings()
            .then(() => true)
            .catch(() => false);
        manager
          .ping(stage.signal())
          .then(() => true)
          .catch(() => false);
        await stage.until('the engine answers again', answers, Boolean);
        const seen = await stage.settleReady(manager, workload);
        expect((await stage.call(seen.endpoints[0], 'x')).body).toEqual({ result: 'x' });
        await stage.remove(manager, workload.functionId);
      }
      expect(await stage.list(manager)).toEqual([]);
    });
  },
);
