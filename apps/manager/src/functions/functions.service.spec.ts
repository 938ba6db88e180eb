import { createServer, type IncomingMessage } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { PinoLogger } from 'nestjs-pino';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '#libs/config/load-config.js';
import { Metrics } from '#libs/observability/metrics.js';
import type { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { MemoryBudget } from '../memory/memory-budget.js';
import { FunctionBus } from './function-bus.js';
import { InlineReconciler, StepSlots } from './inline-reconciler.js';
import type { FunctionChanges } from './function-changes.js';
import type { FunctionRepository } from './function.repository.js';
import type { LayersService } from '../layers/layers.service.js';
import { FORM_OVERHEAD_BYTES } from './upload-form.js';
import { FunctionsService } from './functions.service.js';
import type { SecretsService } from '../secrets/secrets.service.js';
import { InstallationPolicy } from '../revisions/installation-policy.js';

/**
 * How an upload of so many bytes ends on an engine that can hand on `largestCodeBytes`: refused, or about to be
 * stored.
 */
async function upload(bytes: number, largestCodeBytes: number, uploadBytes: number): Promise<unknown> {
  const { functions, limits, invocations } = loadConfig({});
  const none = { concurrency: 0, leaseMs: 0 };
  const repository = { insert: (): never => throwing('about to be stored') };
  const orchestrator = {
    capabilities: { scalesItself: false, isolates: true, largestCodeBytes, layers: 'none' },
  } as Orchestrator;
  const service = new FunctionsService(
    repository as unknown as FunctionRepository,
    {} as FunctionChanges,
    new InlineReconciler(repository as unknown as FunctionRepository, new StepSlots(none), new FunctionBus(), none),
    orchestrator,
    new MemoryBudget(limits, new Metrics()),
    functions,
    { ...limits, uploadBytes },
    new InstallationPolicy(
      functions,
      { memoryMiB: functions.memoryMiB, maxReplicas: 10, maxClusterReplicas: 20 },
      orchestrator,
      invocations,
    ),
    { require: async () => undefined } as unknown as SecretsService,
    {} as LayersService,
    {} as PinoLogger,
  );
  const ended = Promise.withResolvers<unknown>();
  const server = createServer((request: IncomingMessage, response) => {
    void service
      .add(request, null, () => undefined)
      .catch((error: unknown) => ended.resolve(error))
      .finally(() => response.end());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const form = new FormData();
  form.set('function_name', 'handle');
  form.set('python_file', new File(['#'.repeat(bytes)], 'handler.py'));
  await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, { method: 'POST', body: form });
  server.close();
  return ended.promise;
}

function throwing(message: string): never {
  throw new Error(message);
}

describe('The size of an upload', () => {
  const MIB = 1024 * 1024;

  it.each([
    ['what the engine can hand to a replica', MIB, MIB, 10 * MIB],
    ['what is configured, where that is less', 5_000, MIB, 5_000],
    ['what is configured, where the engine takes anything', 5_000, Infinity, 5_000],
  ])('may be %s, and not a byte more, with the number said', async (_what, most, largestCodeBytes, uploadBytes) => {
    expect(await upload(most, largestCodeBytes, uploadBytes)).toMatchObject({ message: 'about to be stored' });
    const refusal = await upload(most + 1, largestCodeBytes, uploadBytes);
    expect(refusal).toMatchObject({ code: 'upload_too_large', kind: 'too_large', extras: { limit_bytes: most } });
    expect((refusal as Error).message).toContain(`${most} bytes`);
  });

  it('may be far too large without being read to its end first', async () => {
    expect(await upload(3 * MIB, MIB, 10 * MIB)).toMatchObject({
      extras: { field: 'form', limit_bytes: MIB + FORM_OVERHEAD_BYTES },
    });
  });
});
