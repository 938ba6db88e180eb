import { readFile } from 'node:fs/promises';
import { parse } from 'yaml';
import { expect, it, vi } from 'vitest';
import { describeOnAnyEngine, describeOnEachLocalEngine } from '../support/engines.js';
import { ECHO, OBEDIENT } from '../support/handlers.js';
import { type Answer, expectProblem } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';

const DASHBOARD = 'docs/grafana/service-faas.json';
const KEY = 'a-key-for-prometheus';

/** The samples of one reading, by name and labels as they are written. */
async function read(manager: TestManager): Promise<Map<string, number>> {
  const { status, text } = await manager.send('/metrics');
  expect(status).toBe(200);
  const samples = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(samples.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.split(' ').at(-1))]));
}

/** The parts of `Server-Timing`, in milliseconds. */
function timingOf({ headers }: Answer): Record<string, number> {
  const parts = String(headers['server-timing']).split(', ');
  return Object.fromEntries(parts.map((part) => part.split(';dur=')).map(([name, ms]) => [name, Number(ms)]));
}

describeOnEachLocalEngine('metrics', (engine) => {
  const stage = Stage.on(engine, { SCALE_INTERVAL_MS: '100' });
  const until = (check: (samples: Map<string, number>) => void) =>
    vi.waitFor(async () => check(await read(stage.manager)), { timeout: 40_000, interval: 200 });

  it('count calls by function and by how they ended', async () => {
    const { id } = await stage.manager.add(OBEDIENT);
    await Promise.all(['x', 'y', 'raise oh', 'return object()'].map((payload) => stage.manager.call(id, payload)));
    await stage.manager.send(`/functions/${id}/execute`, { method: 'POST', body: 'no JSON' });
    await stage.manager.call('aaaaaaaaaaaaaaaa');
    await stage.manager.call('bbbbbbbbbbbbbbbb');
    const samples = await read(stage.manager);
    const calls = (label: string, code: string) => samples.get(`faas_calls_total{function="${label}",code="${code}"}`);
    expect(calls(id, 'ok')).toBe(2);
    expect(calls(id, 'handler_error')).toBe(1);
    expect(calls(id, 'handler_result_invalid')).toBe(1);
    expect(calls('', 'invalid_payload')).toBe(1);
    expect(calls('', 'function_not_found')).toBe(2);
    expect(samples.get(`faas_call_duration_seconds_count{function="${id}"}`)).toBe(4);
    expect(samples.get('faas_call_overhead_seconds_count')).toBe(4);
    expect([...samples.keys()].filter((name) => /a{16}|b{16}/.test(name))).toEqual([]);
    await stage.manager.remove(id);
  });

  it('keep the time of the handler apart from the manager’s own', async () => {
    const before = await read(stage.manager);
    const { id } = await stage.manager.add(OBEDIENT);
    for (let call = 0; call < 3; call += 1) await stage.manager.call(id, 'sleep 0.2');
    const samples = await read(stage.manager);
    expect(samples.get(`faas_call_duration_seconds_sum{function="${id}"}`)).toBeGreaterThan(0.6);
    const overhead = 'faas_call_overhead_seconds_sum';
    expect(samples.get(overhead)! - before.get(overhead)!).toBeLessThan(0.3);
    expect(samples.get(overhead)).toBeGreaterThan(0);
    await stage.manager.remove(id);
  });

  it('count functions and replicas, and forget a function that is gone', async () => {
    const { id } = await stage.manager.add(ECHO);
    await stage.manager.call(id);
    await until((samples) => {
      expect(samples.get('faas_functions{phase="running"}')).toBe(1);
      expect(samples.get('faas_functions{phase="idle"}')).toBe(0);
      expect(samples.get('faas_replicas_wanted{phase="running"}')).toBe(1);
      expect(samples.get('faas_replicas_ready{phase="running"}')).toBe(1);
      expect(samples.get(`faas_calls_in_flight{function="${id}"}`)).toBe(0);
    });
    await stage.manager.remove(id);
    await until((samples) => {
      expect(samples.get('faas_functions{phase="running"}')).toBe(0);
      expect([...samples.keys()].filter((name) => name.includes(id))).toEqual([]);
    });
  });

  it('tell what runs and what waits at this moment', async () => {
    const { id } = await stage.manager.add(OBEDIENT, { concurrency: 1, max_replicas: 1 });
    const calls = Array.from({ length: 4 }, () => stage.manager.call(id, 'sleep 1'));
    await until((samples) => {
      expect(samples.get(`faas_calls_in_flight{function="${id}"}`)).toBe(1);
      expect(samples.get(`faas_calls_waiting{function="${id}"}`)).toBe(3);
      expect(samples.get('faas_held_bytes')).toBeGreaterThan(4 * 16_384);
    });
    const timings = (await Promise.all(calls)).map(timingOf);
    expect(Math.max(...timings.map(({ queue }) => queue!))).toBeGreaterThan(2_000);
    await until((samples) => expect(samples.get('faas_held_bytes')).toBe(0));
    await stage.manager.remove(id);
  });

  it('count runs together, and nothing by the id of one', async () => {
    const ids = (samples: Map<string, number>) =>
      new Set([...samples.keys()].flatMap((name) => /function="([a-z2-7]{16})"/.exec(name)?.[1] ?? []));
    const run = async (payload: string) => {
      const body = JSON.stringify({ function_name: 'handle', code: OBEDIENT, payload });
      const headers = { 'Content-Type': 'application/json' };
      return (await stage.manager.send('/runs', { method: 'POST', headers, body })).status;
    };
    const before = ids(await read(stage.manager));
    const running = run('sleep 2');
    await until((samples) => {
      expect(samples.get('faas_calls_in_flight{function="run"}')).toBe(1);
      expect([...ids(samples).difference(before)]).toEqual([]);
    });
    expect([await running, await run('raise oh'), await run('raise oh')]).toEqual([200, 500, 500]);
    const samples = await read(stage.manager);
    expect(samples.get('faas_calls_total{function="run",code="ok"}')).toBe(1);
    expect(samples.get('faas_calls_total{function="run",code="handler_error"}')).toBe(2);
    expect(samples.get('faas_cold_starts_total{function="run"}')).toBe(3);
    expect(samples.get('faas_call_duration_seconds_count{function="run"}')).toBe(3);
    expect([...ids(samples).difference(before)]).toEqual([]);
  });

  it('measure what the manager asks of its engine, and its own steps', async () => {
    const { id } = await stage.manager.add(ECHO);
    await stage.manager.remove(id);
    await stage.manager.send('/readyz');
    await until((samples) => {
      for (const operation of ['ensure', 'remove', 'list', 'ping']) {
        const name = `faas_engine_call_duration_seconds_count{operation="${operation}",outcome="ok"}`;
        expect(samples.get(name), operation).toBeGreaterThan(0);
      }
      for (const verb of ['ensure', 'remove']) {
        expect(samples.get(`faas_reconcile_duration_seconds_count{verb="${verb}"}`), verb).toBeGreaterThan(0);
      }
      const [sum, count] = ['sum', 'count'].map((part) => samples.get(`faas_reconcile_lag_seconds_${part}`)!);
      expect(sum! / count!).toBeLessThan(5);
      expect(sum).toBeGreaterThan(0);
    });
  });

  it('tell cold starts from others, in the answers too', async () => {
    const { id } = await stage.manager.add(ECHO, { idle_timeout_ms: 500 });
    const warm = await stage.manager.call(id);
    expect(warm.headers['x-cold-start']).toBe('false');
    await until((samples) => expect(samples.get('faas_functions{phase="idle"}')).toBe(1));
    const before = await read(stage.manager);
    const cold = await stage.manager.call(id);
    expect([cold.status, cold.headers['x-cold-start']]).toEqual([200, 'true']);
    const { queue, worker, total } = timingOf(cold) as { queue: number; worker: number; total: number };
    expect(queue).toBeGreaterThan(1);
    expect(total).toBeGreaterThanOrEqual(Math.floor(queue + worker));
    const after = await read(stage.manager);
    const grown = (name: string) => after.get(name)! - (before.get(name) ?? 0);
    expect(grown(`faas_cold_starts_total{function="${id}"}`)).toBe(1);
    expect(grown('faas_wakes_total')).toBe(1);
    for (const stage of ['queue', 'connect', 'first_byte']) {
      expect(grown(`faas_cold_start_duration_seconds_count{stage="${stage}"}`), stage).toBe(1);
      expect(grown(`faas_cold_start_duration_seconds_sum{stage="${stage}"}`), stage).toBeGreaterThan(0);
    }
    await stage.manager.remove(id);
  });
});

describeOnEachLocalEngine('metrics of a warm pool', (engine) => {
  const stage = Stage.on(engine, { WARM_POOL_SIZE: '1', SCALE_INTERVAL_MS: '100' });

  it('tell its size, how often it had a worker, and where starts from it spend their time', async () => {
    const until = (check: (samples: Map<string, number>) => void) =>
      vi.waitFor(async () => check(await read(stage.manager)), { timeout: 40_000, interval: 100 });
    const full = (samples: Map<string, number>) => {
      expect(samples.get('faas_pool_target')).toBeGreaterThan(0);
      expect(samples.get('faas_pool_ready')).toBe(samples.get('faas_pool_target'));
    };
    const takes = (samples: Map<string, number>) =>
      ['hit', 'miss'].map((outcome) => samples.get(`faas_pool_takes_total{outcome="${outcome}"}`));
    await until(full);
    const { id } = await stage.manager.add(ECHO, { idle_timeout_ms: 500 });
    await until((samples) => {
      full(samples);
      expect(takes(samples)).toEqual([1, 0]);
      expect(samples.get('faas_functions{phase="idle"}')).toBe(1);
    });
    expect((await stage.manager.call(id)).headers['x-cold-start']).toBe('true');
    await until((samples) => {
      expect(takes(samples)).toEqual([2, 0]);
      for (const stage of ['take', 'specialise', 'queue', 'connect', 'first_byte']) {
        const of = (part: string) => samples.get(`faas_cold_start_duration_seconds_${part}{stage="${stage}"}`);
        expect(of('count'), stage).toBe(stage === 'take' || stage === 'specialise' ? 2 : 1);
        expect(of('sum'), stage).toBeGreaterThan(0);
        expect(of('sum'), stage).toBeLessThan(5);
      }
    });
    // More at once than the pool ever has.
    const burst = await Promise.all(Array.from({ length: 6 }, () => stage.manager.add(ECHO)));
    await until((samples) => {
      const [hits, misses] = takes(samples);
      // One that waited for its turn may have found a worker after all.
      expect(hits! + misses!).toBeGreaterThanOrEqual(8);
      expect(misses).toBeGreaterThan(0);
    });
    await Promise.all([id, ...burst.map((one) => one.id)].map((one) => stage.manager.remove(one)));
  });
});

describeOnAnyEngine('an answer', (engine) => {
  const stage = Stage.on(engine);

  it('says where the call spent its time, whatever came of it', async () => {
    const { id } = await stage.manager.add(OBEDIENT);
    const slept = timingOf(await stage.manager.call(id, 'sleep 0.1')) as { worker: number; total: number };
    expect(slept.worker).toBeGreaterThanOrEqual(100);
    expect(slept.total).toBeGreaterThanOrEqual(slept.worker);
    const raised = await stage.manager.call(id, 'raise oh');
    expect(timingOf(raised)).toEqual({
      queue: expect.any(Number),
      worker: expect.any(Number),
      total: expect.any(Number),
    });
    expect(raised.headers['x-cold-start']).toBe('false');
    const missing = await stage.manager.call('aaaaaaaaaaaaaaaa');
    expect(timingOf(missing)).toMatchObject({ queue: 0, worker: 0 });
    await stage.manager.remove(id);
  });
});

describeOnAnyEngine('metrics of a manager with API keys', (engine) => {
  const stage = Stage.on(engine, { API_KEYS: `some-other-key-0123,${KEY}` });

  it('are read as the ServiceMonitor does it, with a key as bearer token, and not without', async () => {
    const monitor = parse(await readFile('k8s/components/service-monitor/service-monitor.yaml', 'utf8')) as {
      spec: { endpoints: { path: string; authorization: { type?: string } }[] };
    };
    const [{ path, authorization }] = monitor.spec.endpoints as [(typeof monitor.spec.endpoints)[0]];
    const headers = { Authorization: `${authorization.type ?? 'Bearer'} ${KEY}`, Host: 'faas.example' };
    const answer = await stage.manager.send(path, { headers });
    expect(answer.status).toBe(200);
    expect(answer.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
    for (const name of ['process_cpu_seconds_total', 'nodejs_eventloop_lag_p99_seconds', 'nodejs_gc_duration_seconds'])
      expect(answer.text).toContain(`# TYPE ${name} `);
    expectProblem(await stage.manager.send(path), 401, 'unauthorized');
    expect(stage.manager.log).not.toContain('"path":"/metrics"');
  });

  it('are anybody’s with METRICS_PUBLIC, and nothing else is', async () => {
    const open = await stage.start({ API_KEYS: KEY, METRICS_PUBLIC: 'true' });
    expect((await open.send('/metrics', { headers: { Host: 'faas.example' } })).status).toBe(200);
    expectProblem(await open.send('/functions'), 401, 'unauthorized');
  });
});

describeOnAnyEngine('what is written about the metrics', (engine) => {
  const stage = Stage.on(engine);
  const NAME = /\b(?:faas|process|nodejs)_[a-z0-9_]+/g;

  /** Every name that a query may use. */
  async function exported(): Promise<Set<string>> {
    const { text } = await stage.manager.send('/metrics');
    const types = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name!, type!] as const);
    const series = (name: string, type: string) =>
      type === 'histogram' ? ['_bucket', '_sum', '_count'].map((part) => name + part) : [name];
    return new Set(types.flatMap(([name, type]) => series(name, type)));
  }

  it('in the dashboard asks for nothing that isn’t there, and in every panel', async () => {
    const known = await exported();
    const dashboard = JSON.parse(await readFile(DASHBOARD, 'utf8')) as {
      panels: { id: number; type: string; title: string; targets?: { expr: string }[] }[];
      templating: { list: { definition?: string }[] };
    };
    const panels = dashboard.panels.filter(({ type }) => type !== 'row');
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length);
    for (const { title, targets = [] } of panels) {
      const names = targets.flatMap(({ expr }) => expr.match(NAME) ?? []);
      expect(names, title).not.toEqual([]);
      for (const name of names) expect(known, title).toContain(name);
    }
    for (const name of dashboard.templating.list.flatMap(({ definition }) => definition?.match(NAME) ?? [])) {
      expect(known).toContain(name);
    }
  });

  it('in docs/metrics.md names all of ours, in the dashboard too, and nothing else', async () => {
    const known = new Set([...(await exported())].map((name) => name.replace(/_(?:bucket|sum|count)$/, '')));
    const page = await readFile('docs/metrics.md', 'utf8');
    const named = new Set((page.match(NAME) ?? []).map((name) => name.replace(/_(?:bucket|sum|count)$/, '')));
    named.delete('process_');
    named.delete('nodejs_');
    const dashboard = await readFile(DASHBOARD, 'utf8');
    for (const name of [...known].filter((one) => one.startsWith('faas_'))) {
      expect(named).toContain(name);
      expect(dashboard).toContain(name);
    }
    for (const name of named) expect(known).toContain(name);
  });
});

describeOnAnyEngine('metrics of a manager that tells no functions apart', (engine) => {
  const stage = Stage.on(engine, { METRICS_MAX_FUNCTIONS: '0' });

  it('go on being readable', async () => {
    const { manager } = stage;
    const { id } = await manager.add(ECHO);
    await manager.call(id);
    const samples = await read(manager);
    expect(samples.get('faas_calls_total{function="other",code="ok"}')).toBe(1);
    expect(samples.get('faas_calls_in_flight{function="other"}')).toBe(0);
    await manager.remove(id);
  });
});
