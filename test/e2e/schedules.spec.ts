import { setTimeout as delay } from 'node:timers/promises';
import { expect, it, vi } from 'vitest';
import type { ScheduleDto } from '../client/index.js';
import { expectAsDocumented } from '../support/document.js';
import { describeOnAnyEngine } from '../support/engines.js';
import { ECHO, OBEDIENT } from '../support/handlers.js';
import { type Answer, expectProblem, type Sent } from '../support/http.js';
import { Stage } from '../support/stage.js';

const PATIENCE = { timeout: 60_000, interval: 50 };
const EVERY_SECOND = { interval_ms: 1_000, overlap: 'allow' };

describeOnAnyEngine('schedules', (engine) => {
  const stage = Stage.on(engine, { SCHEDULES_PER_FUNCTION: '3' });
  const here = () => stage.manager;
  const pathOf = (id: string, name = '') => `/functions/${id}/schedules${name && `/${name}`}`;
  const put = (id: string, name: string, body: object | string, sent: Sent = {}): Promise<Answer> =>
    here().send(pathOf(id, name), {
      method: 'PUT',
      body: typeof body === 'string' ? body : JSON.stringify(body),
      ...sent,
    });

  async function made(id: string, name: string, body: object): Promise<ScheduleDto> {
    const answer = await put(id, name, body);
    expect(answer.status, answer.text).toBe(201);
    expect(answer.headers['location']).toBe(pathOf(id, name));
    expectAsDocumented(answer.json(), 'ScheduleDto');
    return answer.json() as ScheduleDto;
  }

  async function read(id: string, name: string): Promise<ScheduleDto> {
    const answer = await here().send(pathOf(id, name));
    expect(answer.status, answer.text).toBe(200);
    expectAsDocumented(answer.json(), 'ScheduleDto');
    return answer.json() as ScheduleDto;
  }

  it('call their function again and again, with what it returned to be read', async () => {
    const { id } = await here().add(ECHO, { name: 'handle' });
    const first = await made(id, 'often', { ...EVERY_SECOND, payload: 'tick "tock"' });
    expect(first).toMatchObject({ name: 'often', function_id: id, status: 'active', fired: 0, last_runs: [] });
    expect(first.next_times).toHaveLength(5);
    const { last_runs: runs = [] } = await vi.waitFor(async () => {
      const seen = await read(id, 'often');
      expect(seen.last_runs?.filter(({ status }) => status === 'succeeded').length).toBeGreaterThan(2);
      return seen;
    }, PATIENCE);
    const { invocation, scheduled_for } = runs.find(({ status }) => status === 'succeeded')!;
    const call = (await here().send(invocation)).json();
    expect(call).toMatchObject({ result: 'tick "tock"', schedule: 'often', scheduled_for, function_id: id });
    const times = runs.map((run) => Date.parse(run.scheduled_for)).toReversed();
    expect(times.map((time) => (time - times[0]!) / 1_000)).toEqual(times.map((_, index) => index));
    const { text } = await here().send('/metrics');
    expect(text).toMatch(
      new RegExp(`^faas_schedule_firings_total\\{function="${id}",outcome="fired"\\} (?:[3-9]|\\d\\d)`, 'm'),
    );
    expect(text).toMatch(/^faas_schedule_lag_seconds_count [1-9]/m);
    expect(text).toMatch(/^faas_schedules\{state="active"\} 1$/m);
    expect((await here().send(pathOf(id, 'often'), { method: 'DELETE' })).status).toBe(204);
    expectProblem(await here().send(pathOf(id, 'often')), 404, 'schedule_not_found');
    await here().remove(id);
  });

  it('fire once for each time with three managers, and go on without the first', async () => {
    const { id } = await here().add(ECHO);
    const others = [await stage.start(), await stage.start()];
    await made(id, 'often', EVERY_SECOND);
    const runs = async () => (await read(id, 'often')).fired;
    await vi.waitFor(async () => expect(await runs()).toBeGreaterThan(3), PATIENCE);
    await others[0]!.stop();
    const before = await runs();
    await vi.waitFor(async () => expect(await runs()).toBeGreaterThan(before + 1), PATIENCE);
    const { fired, missed, last_runs = [], next_times } = await read(id, 'often');
    expect(missed.count).toBe(0);
    expect(new Set(last_runs.map(({ scheduled_for }) => scheduled_for)).size).toBe(last_runs.length);
    const [newest] = last_runs;
    // It may have fired between the two.
    expect(Date.parse(next_times[0]!) - Date.parse(newest!.scheduled_for)).toBeLessThanOrEqual(1_000);
    const calls = (await here().send(`/functions/${id}/invocations?limit=1000`)).json() as { scheduled_for: string }[];
    expect(new Set(calls.map(({ scheduled_for }) => scheduled_for)).size).toBe(calls.length);
    expect(calls.length).toBeGreaterThanOrEqual(fired);
    await others[1]!.stop();
    await here().remove(id);
  });

  it('pause after failures, say why, and go on when they are put again', async () => {
    const { id } = await here().add(OBEDIENT);
    const body = { ...EVERY_SECOND, payload: 'raise oh', max_attempts: 1, pause_after_failures: 2 };
    await made(id, 'failing', body);
    const paused = await vi.waitFor(async () => {
      const seen = await read(id, 'failing');
      expect(seen.status).toBe('paused');
      return seen;
    }, PATIENCE);
    expect(paused.paused?.reason).toMatch(/^Its last \d calls have failed for good \(pause_after_failures: 2\)/);
    expect(paused).toMatchObject({ next_times: [], enabled: true });
    // The next one may have been made before they were looked at.
    expect(paused.last_runs?.find(({ status }) => status === 'dead')).toMatchObject({
      error: { code: 'handler_error', detail: 'ValueError: oh' },
    });
    const again = await put(id, 'failing', body);
    expect(again.json()).toMatchObject({ status: 'active', paused: null, failures: 0 });
    await here().remove(id);
  });

  it('rest while their function is switched off', async () => {
    const { id } = await here().add(ECHO);
    await made(id, 'often', EVERY_SECOND);
    const enable = (enabled: boolean) =>
      here().send(`/functions/${id}`, { method: 'PATCH', body: JSON.stringify({ enabled }) });
    await enable(false);
    const { fired } = await read(id, 'often');
    expect(await read(id, 'often')).toMatchObject({ status: 'resting', next_times: [] });
    // Several of its times pass.
    await delay(3_000);
    // One may have been about to fire.
    expect((await read(id, 'often')).fired).toBeLessThanOrEqual(fired + 1);
    await enable(true);
    await vi.waitFor(async () => expect((await read(id, 'often')).fired).toBeGreaterThan(fired + 1), PATIENCE);
    expect(await read(id, 'often')).toMatchObject({ status: 'active', missed: { count: 0 } });
    await here().remove(id);
  });

  it('are listed by name, and go with their function', async () => {
    const { id } = await here().add(ECHO);
    await made(id, 'b', { cron: '0 3 * * MON', timezone: 'Europe/Berlin', payload: 'b' });
    await made(id, 'a', { cron: '@daily', enabled: false });
    const answer = await here().send(pathOf(id));
    const listed = answer.json() as ScheduleDto[];
    for (const one of listed) expectAsDocumented(one, 'ScheduleDto');
    expect(listed).toMatchObject([
      { name: 'a', status: 'disabled', next_times: [] },
      { name: 'b', cron: '0 3 * * MON', timezone: 'Europe/Berlin', payload: 'b', status: 'active' },
    ]);
    expect(listed[0]).not.toHaveProperty('last_runs');
    const first = await here().send(`${pathOf(id)}?limit=1`);
    expect(first.headers['link']).toBe(`<${pathOf(id)}?limit=1&after=a>; rel="next"`);
    const second = await here().send(`${pathOf(id)}?limit=1&after=a`);
    expect([first, second].map((page) => (page.json() as ScheduleDto[]).map(({ name }) => name))).toEqual([
      ['a'],
      ['b'],
    ]);
    expect(second.headers['link']).toBeUndefined();
    for (const time of listed[1]!.next_times) expect(new Date(time).getUTCDay()).toBe(1);
    await here().remove(id);
    expectProblem(await here().send(pathOf(id)), 404, 'function_not_found');
  });

  it('are changed only in the version that was read', async () => {
    const { id } = await here().add(ECHO);
    const first = await put(id, 'nightly', { cron: '@daily' });
    expect(first).toMatchObject({ status: 201, headers: { etag: '"1"' } });
    const same = await put(id, 'nightly', { cron: '@daily' }, { headers: { 'If-Match': '"1"' } });
    expect(same).toMatchObject({ status: 200, headers: { etag: '"1"' } });
    const changed = await put(id, 'nightly', { cron: '@hourly' }, { headers: { 'If-Match': '"1"' } });
    expect(changed).toMatchObject({ status: 200, headers: { etag: '"2"' } });
    const old = { headers: { 'If-Match': '"1"' } };
    expectProblem(await put(id, 'nightly', { cron: '@weekly' }, old), 412, 'version_outdated');
    expectProblem(await put(id, 'other', { cron: '@weekly' }, old), 412, 'version_outdated');
    const any = { headers: { 'If-Match': '*' } };
    expectProblem(await put(id, 'other', { cron: '@weekly' }, any), 412, 'version_outdated');
    expectProblem(await here().send(pathOf(id, 'nightly'), { method: 'DELETE', ...old }), 412, 'version_outdated');
    const current = { method: 'DELETE', headers: { 'If-Match': '"2"' } };
    expect((await here().send(pathOf(id, 'nightly'), current)).status).toBe(204);
    await here().remove(id);
  });

  it('are refused with the field at fault', async () => {
    const { id } = await here().add(ECHO);
    const refused = async (body: object | string, field: string, name = 'x') => {
      const answer = await put(id, name, body);
      expect(answer.json()).toMatchObject({ status: 400, field });
      return (answer.json() as { code: string }).code;
    };
    expect(await refused({}, 'cron')).toBe('invalid_schedule');
    expect(await refused({ cron: '0 0 30 2 *' }, 'cron')).toBe('invalid_schedule');
    expect(await refused({ cron: '@daily', timezone: 'Nowhere' }, 'timezone')).toBe('invalid_schedule');
    expect(await refused({ interval_ms: 10 }, 'interval_ms')).toBe('invalid_schedule');
    expect(await refused({ cron: '@daily', crom: 1 }, 'crom')).toBe('invalid_schedule');
    expect(await refused({ cron: '@daily' }, 'name', 'Not.A.Label')).toBe('invalid_schedule');
    expect(await refused('[]', 'body')).toBe('invalid_update');
    expect(await refused('{"cron": ', 'body')).toBe('invalid_update');
    expect(await refused(`{"cron": "@daily", "payload": "${'x'.repeat(300_000)}"}`, 'body')).toBe('invalid_update');
    expect(await refused({ cron: '@daily', retry_on: Array(10_000).fill('crash') }, 'body')).toBe('invalid_update');
    expectProblem(await put(id, 'x', { cron: '@daily', payload: 'x'.repeat(40_000) }), 413, 'payload_too_large');
    expectProblem(await put('nobody', 'x', { cron: '@daily' }), 404, 'function_not_found');
    expectProblem(await here().send(pathOf(id, 'x'), { method: 'DELETE' }), 404, 'schedule_not_found');
    for (const method of ['GET', 'DELETE']) {
      expectProblem(await here().send(pathOf(id, '%00'), { method }), 404, 'schedule_not_found');
    }
    expectProblem(await here().send(`${pathOf(id)}?page=1`), 400, 'invalid_request');
    for (const query of ['limit=0', 'limit=101', 'after=A']) {
      expectProblem(await here().send(`${pathOf(id)}?${query}`), 400, 'invalid_page');
    }
    const escaped = `{"cron": "@daily", "payload": "${String.raw`\u0078`.repeat(32_768)}"}`;
    expect((await put(id, 'a', escaped)).json()).toMatchObject({ payload: 'x'.repeat(32_768) });
    for (const name of ['b', 'c']) await made(id, name, { cron: '@daily' });
    expectProblem(await put(id, 'd', { cron: '@daily' }), 409, 'too_many_schedules');
    await here().remove(id);
  });
});
