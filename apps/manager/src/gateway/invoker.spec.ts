import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough } from 'node:stream';
import { loadConfig } from '#libs/config/load-config.js';
import type { AppError } from '#libs/errors/app-error.js';
import { Notifications } from '#libs/database/notifications.js';
import { ColdStartMetrics, Metrics } from '#libs/observability/metrics.js';
import { MemoryOrchestrator } from '#libs/orchestrator/testing/memory.orchestrator.js';
import { TEST_TOKENS } from '#libs/orchestrator/testing/tokens.js';
import type { PinoLogger } from 'nestjs-pino';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { EngineUnavailable } from '../functions/errors.js';
import { FunctionBus } from '../functions/function-bus.js';
import { FunctionChanges } from '../functions/function-changes.js';
import { FunctionEntity } from '../functions/function.entity.js';
import type { FunctionRepository } from '../functions/function.repository.js';
import { MemoryBudget, MemoryReservation } from '../memory/memory-budget.js';
import type { Activator, Sleeper } from '../scaling/activator.js';
import { CallEnds } from './call-ends.js';
import { CallMetrics } from './call-metrics.js';
import { CallTiming } from './call-timing.js';
import { Cancellation } from './cancellation.js';
import type { HttpRequest } from './http-exchange.js';
import { type Call, Invoker } from './invoker.js';
import { PostMortem } from './post-mortem.js';
import { RequestBody } from './request-body.js';
import { Router } from './router.js';

const ID = 'aaaaaaaaaaaaaaaa';
const silent = pino({ level: 'silent' });

let worker: Server;
/** Calls that the worker holds until they are answered. */
let held: (() => void)[];
let row: FunctionEntity;
let router: Router;
let memory: MemoryBudget;
let metrics: Metrics;
let woken: string[];
let ends: CallEnds;
let invoker: Invoker;

beforeEach(async () => {
  held = [];
  worker = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      const answer = () => void response.setHeader('X-Faas-Runner', '1').end(`{"result":${body}}`);
      if (body.includes('hold')) held.push(answer);
      else answer();
    });
  });
  await new Promise<void>((resolve) => worker.listen(0, '127.0.0.1', resolve));
  const { port } = worker.address() as AddressInfo;
  row = Object.assign(new FunctionEntity(), {
    id: ID,
    replicas: 1,
    minReplicas: 0,
    maxReplicas: null,
    idleTimeoutMs: 1_000,
    timeoutMs: 5_000,
    name: null,
    enabled: true,
    activeRevision: 1,
    servingRevision: null,
    workloadOf: null,
    traffic: null,
    wantedTraffic: null,
    restingSince: null,
    history: {},
    concurrency: 1,
    phase: 'running',
    endpoints: [{ replica: 'r1', address: { kind: 'tcp', host: '127.0.0.1', port }, guard: 'worker' }],
    deletedAt: null,
    reason: null,
    lastFault: null,
  });
  const repository = {
    find: (id: string) => Promise.resolve(id === ID ? row : null),
    requestReconcile: () => Promise.resolve(),
  } as unknown as FunctionRepository;
  const changes = new FunctionChanges(new Notifications('postgresql://127.0.0.1:1/none', silent));
  const { limits, metrics: labels } = loadConfig({ QUEUE_PER_FUNCTION: '1' });
  const logger = silent as unknown as PinoLogger;
  const bus = new FunctionBus();
  woken = [];
  const activator = { wake: ({ id }: Sleeper) => void woken.push(id) } as Activator;
  router = new Router(repository, new MemoryOrchestrator(), TEST_TOKENS, changes, bus, activator, limits, logger);
  metrics = new Metrics();
  memory = new MemoryBudget(limits, metrics);
  const existing = { existing: (ids: string[]) => Promise.resolve(ids) } as unknown as FunctionRepository;
  ends = new CallEnds();
  invoker = new Invoker(
    router,
    repository,
    new PostMortem(repository, changes, TEST_TOKENS),
    activator,
    new CallMetrics(labels, existing, metrics, new ColdStartMetrics(metrics)),
    ends,
  );
});
afterEach(async () => {
  router.onApplicationShutdown();
  worker.closeAllConnections();
  await new Promise((resolve) => worker.close(resolve));
});

/** A call that came in by no request. */
function callOf(payload: string, read = () => undefined): Call {
  return {
    kind: 'execute',
    requestId: 'request-1',
    createdBy: null,
    cancellation: new Cancellation(),
    timing: new CallTiming(),
    reservation: new MemoryReservation(memory),
    readPayload: () => {
      read();
      return Promise.resolve(Buffer.from(JSON.stringify({ payload })));
    },
  };
}

const counts = async () =>
  Object.fromEntries(
    [...(await metrics.text()).matchAll(/^faas_calls_total\{function="(.*)",code="(.*)"\} (\d+)$/gm)].map(
      ([, id, code, count]) => [`${id} ${code}`, Number(count)],
    ),
  );

describe('Invoker', () => {
  it("answers with the worker's bytes, for a call that no HTTP request made", async () => {
    expect(String(await invoker.invoke(ID, callOf('ü')))).toBe('{"result":{"payload":"ü"}}');
    expect(await counts()).toMatchObject({ [`${ID} ok`]: 1 });
  });

  it('reads no payload of a call that its function has no place for', async () => {
    const first = invoker.invoke(ID, callOf('hold'));
    await vi.waitFor(() => expect(held).toHaveLength(1));
    const second = invoker.invoke(ID, callOf('waits'));
    await vi.waitFor(() => expect(router.knownRoute(ID)?.pool.waiting).toBe(1));
    const read = vi.fn(() => undefined);
    await expect(invoker.invoke(ID, callOf('refused', read))).rejects.toMatchObject({ code: 'function_overloaded' });
    await expect(invoker.invoke('bbbbbbbbbbbbbbbb', callOf('unknown', read))).rejects.toMatchObject({
      code: 'function_not_found',
    });
    expect(read).not.toHaveBeenCalled();
    held[0]?.();
    await Promise.all([first, second]);
    expect(await counts()).toMatchObject({
      [`${ID} ok`]: 2,
      [`${ID} function_overloaded`]: 1,
      ' function_not_found': 1,
    });
  });

  it('reads the payload of a background call only when that has a slot', async () => {
    const first = invoker.invoke(ID, callOf('hold'));
    await vi.waitFor(() => expect(held).toHaveLength(1));
    const read = vi.fn(() => undefined);
    const background = invoker.invoke(ID, { ...callOf('later', read), isBackground: true });
    await vi.waitFor(() => expect(router.knownRoute(ID)?.pool.waiting).toBe(1));
    expect(read).not.toHaveBeenCalled();
    held[0]?.();
    await first;
    expect(String(await background)).toBe('{"result":{"payload":"later"}}');
    expect(read).toHaveBeenCalledOnce();
  });

  it('ends a call that is cancelled, while it waits and while its worker runs it', async () => {
    const running = callOf('hold');
    const first = invoker.invoke(ID, running);
    await vi.waitFor(() => expect(held).toHaveLength(1));
    const waiting = callOf('waits');
    const second = invoker.invoke(ID, waiting);
    await vi.waitFor(() => expect(router.knownRoute(ID)?.pool.waiting).toBe(1));
    waiting.cancellation.cancel();
    await expect(second).rejects.toMatchObject({ code: 'call_cancelled' });
    running.cancellation.cancel();
    await expect(first).rejects.toMatchObject({ code: 'call_cancelled' });
    expect(await counts()).toMatchObject({ [`${ID} call_cancelled`]: 2 });
  });

  it.each([
    [404, { 'X-Faas-Runner': '1' }, 'http_unsupported'],
    [405, { 'X-Faas-Runner': '1' }, 'http_unsupported'],
    [500, { 'X-Faas-Runner': '1' }, 'worker_crashed'],
    [400, { 'X-Faas-Runner': '1' }, 'worker_crashed'],
  ])('takes an unexplained %i to an HTTP call for what it is', async (status, headers, code) => {
    worker.removeAllListeners('request').on('request', (_, response: ServerResponse) => {
      response.writeHead(status, headers).end('Sorry.');
    });
    const body = new RequestBody({ headers: {} } as IncomingMessage);
    const http: HttpRequest = {
      method: 'GET',
      target: '/',
      mount: { root: '' },
      headers: ['host', 'shop.example'],
      body,
      payloadBytes: 1_000,
      idleMs: 10_000,
      sink: { begin: () => new PassThrough() },
    };
    const readPayload = () => body.begin({ add: () => undefined });
    await expect(invoker.invoke(ID, { ...callOf(''), readPayload, http })).rejects.toMatchObject({ code });
  });

  it('finds the function of a run for that run alone', async () => {
    Object.assign(row, { isRun: true });
    await expect(invoker.invoke(ID, callOf('x'))).rejects.toMatchObject({ code: 'function_not_found' });
    expect(String(await invoker.invoke(ID, { ...callOf('x'), kind: 'run' }))).toBe('{"result":{"payload":"x"}}');
  });

  describe('a call of a function that has yet to begin', () => {
    const startOf = (failure: Promise<AppError | undefined>, onWorker = () => undefined) => ({
      start: { withinMs: 60_000, failure, onWorker },
    });

    it('fails with what keeps its worker from starting', async () => {
      Object.assign(row, { phase: 'creating', endpoints: [] });
      const { promise, resolve } = Promise.withResolvers<AppError | undefined>();
      const onWorker = vi.fn(() => undefined);
      const call = invoker.invoke(ID, { ...callOf('x'), ...startOf(promise, onWorker) });
      await vi.waitFor(() => expect(router.knownRoute(ID)?.pool.waiting).toBe(1));
      resolve(new EngineUnavailable('It is away.'));
      await expect(call).rejects.toMatchObject({ code: 'orchestrator_unavailable' });
      expect(onWorker).not.toHaveBeenCalled();
      expect(await counts()).toMatchObject({ [`${ID} orchestrator_unavailable`]: 1 });
    });

    it('fails so too where its function is refused first', async () => {
      Object.assign(row, { phase: 'error', endpoints: [], reason: { code: 'handler_not_loadable', message: 'No.' } });
      const failure = Promise.resolve(new EngineUnavailable('It is away.'));
      const call = invoker.invoke(ID, { ...callOf('x'), ...startOf(failure) });
      await expect(call).rejects.toMatchObject({ code: 'orchestrator_unavailable' });
    });

    it('is cancelled by a caller who leaves', async () => {
      Object.assign(row, { phase: 'creating', endpoints: [] });
      const { promise, resolve } = Promise.withResolvers<AppError | undefined>();
      const waiting = callOf('x');
      const call = invoker.invoke(ID, { ...waiting, ...startOf(promise) });
      await vi.waitFor(() => expect(router.knownRoute(ID)?.pool.waiting).toBe(1));
      waiting.cancellation.cancel();
      resolve(undefined);
      await expect(call).rejects.toMatchObject({ code: 'call_cancelled' });
    });

    it('goes on where a worker has it, whatever becomes of the start', async () => {
      const { promise, resolve } = Promise.withResolvers<AppError | undefined>();
      const onWorker = vi.fn(() => undefined);
      const call = invoker.invoke(ID, { ...callOf('hold'), ...startOf(promise, onWorker) });
      await vi.waitFor(() => expect(held).toHaveLength(1));
      expect(onWorker).toHaveBeenCalledOnce();
      resolve(new EngineUnavailable('It is away.'));
      await promise;
      held[0]?.();
      expect(String(await call)).toBe('{"result":{"payload":"hold"}}');
    });
  });

  it('asks for a replica of a function that sleeps, and refuses one that can’t run', async () => {
    Object.assign(row, { replicas: 0, phase: 'idle', endpoints: [] });
    const call = callOf('x');
    const waiting = invoker.invoke(ID, call);
    await vi.waitFor(() => expect(woken).toEqual([ID]));
    call.cancellation.cancel();
    await expect(waiting).rejects.toMatchObject({ code: 'call_cancelled' });
    row = Object.assign(new FunctionEntity(), row, { deletedAt: new Date() });
    router.onApplicationShutdown();
    await expect(invoker.invoke(ID, callOf('x'))).rejects.toMatchObject({ code: 'function_not_runnable' });
  });
});
