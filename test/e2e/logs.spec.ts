import { randomUUID } from 'node:crypto';
import { afterEach, expect, it, vi } from 'vitest';
import { ON_CLUSTER } from '../support/engine.js';
import { describeOnEachLocalEngine } from '../support/engines.js';
import { expectProblem } from '../support/http.js';
import { LogReader, type LogRecord } from '../support/log-reader.js';
import { expectAsDocumented } from '../support/document.js';
import { Stage } from '../support/stage.js';

const TALKATIVE = `
import os, sys
print("loading")
def handle(payload: str):
    if payload == "crash":
        print("last words", flush=True)
        os._exit(3)
    print("said " + payload)
    print("whispered " + payload, file=sys.stderr)
    return payload
`;
const PRINTING = `
def handle(payload: str):
    for number in range(int(payload)):
        print(f"{number} ".ljust(1000, "x"))
`;
const HOSTILE = `
import os, sys
print("\\x1b[31mred\\x07")
os.write(1, b'{"faas": "worker_failed", "message": "forged"}\\n[a-call-of-another] forged\\n')
def handle(payload: str):
    if payload == "forge":
        print('{"faas": "worker_failed", "message": "forged"}')
        os.write(1, b'{"faas": "worker_failed", "message": "forged"}\\n')
        os.write(2, b'[a-call-of-another] forged\\n')
        print("forged enough")
        return
    os.write(1, b"y" * 10_000_000)
    os.write(1, b"\\nover\\n")
    print("z" * 900_000)
    print("the end")
`;

describeOnEachLocalEngine('logs', (engine) => {
  const stage = Stage.on(engine, { SCALE_INTERVAL_MS: '100' });
  const readers: LogReader[] = [];
  afterEach(() => {
    for (const reader of readers.splice(0)) reader.hangUp();
  });

  async function follow(id: string, query: string, headers: Record<string, string> = {}): Promise<LogReader> {
    const reader = await LogReader.open(`${stage.manager.url}/functions/${id}/logs${query}`, headers);
    readers.push(reader);
    return reader;
  }

  async function linesOf(id: string, query = '', manager = stage.manager): Promise<LogRecord[]> {
    const answer = await manager.send(`/functions/${id}/logs${query}`);
    expect(answer.status, answer.text).toBe(200);
    expect(answer.headers).toMatchObject({ 'content-type': 'application/x-ndjson', 'x-accel-buffering': 'no' });
    const lines = answer.text.split('\n');
    return lines.filter(Boolean).map((line) => JSON.parse(line) as LogRecord);
  }

  function untilSaid(id: string, text: string, query = '', manager = stage.manager): Promise<LogRecord[]> {
    return vi.waitFor(
      async () => {
        const lines = await linesOf(id, query, manager);
        expect(lines.map(({ line }) => line)).toContainEqual(expect.stringContaining(text));
        return lines;
      },
      { timeout: 20_000, interval: 50 },
    );
  }

  it('show what a call has printed, under its request id', async () => {
    const { id } = await stage.manager.add(TALKATIVE);
    const requestId = randomUUID();
    await stage.manager.call(id, 'hello', { headers: { 'X-Request-Id': requestId } });
    await stage.manager.call(id, 'other');
    await untilSaid(id, 'said other');
    const lines = await linesOf(id, `?request_id=${requestId}`);
    const said = lines.map(({ line, stream }) => `${stream}: ${line}`).toSorted();
    // Kubernetes keeps both streams in one.
    const [out, error] = ON_CLUSTER ? ['null', 'null'] : ['stdout', 'stderr'];
    expect(said).toEqual([`${error}: whispered hello`, `${out}: said hello`].toSorted());
    for (const line of lines) {
      expectAsDocumented(line, 'LogRecordDto');
      expect(line).toMatchObject({ revision: 1, source: 'handler', request_id: requestId });
      expect(Math.abs(Date.parse(line.time) - Date.now())).toBeLessThan(30_000);
    }
    const all = await linesOf(id);
    expect(all).toContainEqual(expect.objectContaining({ line: 'loading', request_id: null }));
    expect(all.map(({ time }) => time)).toEqual(all.map(({ time }) => time).toSorted());
    expect((await linesOf(id, '?tail=1')).map(({ line }) => line)).toEqual([all.at(-1)?.line]);
    expect(await linesOf(id, '?tail=0')).toEqual([]);
    const { time, replica } = all.at(-1)!;
    expect(await linesOf(id, `?since=${time}`)).toEqual([all.at(-1)]);
    expect(await linesOf(id, `?replica=${replica}`)).toEqual(all);
    expect(await linesOf(id, '?replica=another')).toEqual([]);
    expect(await linesOf(id, '?revision=1&source=handler')).toEqual(all.filter(({ source }) => source === 'handler'));
    expect(await linesOf(id, '?revision=2')).toEqual([]);
    await stage.manager.remove(id);
    expectProblem(await stage.manager.send(`/functions/${id}/logs`), 404, 'function_not_found');
  });

  it('show what a call has said that took its runner down, and what the worker noted of it', async () => {
    const { id } = await stage.manager.add(TALKATIVE);
    expectProblem(await stage.manager.call(id, 'crash'), 502, 'worker_crashed');
    expect(await untilSaid(id, 'last words')).toContainEqual(expect.objectContaining({ line: 'last words' }));
    const notes = await untilSaid(id, '{"faas": "runner_exited', '?source=worker');
    expect(notes.every(({ source, line }) => source === 'worker' && line.startsWith('{"faas": "'))).toBe(true);
    await stage.manager.remove(id);
  });

  it('keep what a function has said before it went to sleep, for every manager, until it is removed', async () => {
    const { id } = await stage.manager.add(TALKATIVE, { idle_timeout_ms: 300 });
    const requestId = randomUUID();
    await stage.manager.call(id, 'good night', { headers: { 'X-Request-Id': requestId } });
    const before = await untilSaid(id, 'said good night');
    await vi.waitFor(async () => expect(await stage.room.workers()).toEqual([]), { timeout: 40_000 });
    const kept = await linesOf(id);
    expect(kept.slice(0, before.length)).toEqual(before);
    const other = await stage.start();
    expect(await linesOf(id, '', other)).toEqual(kept);
    expect((await linesOf(id, `?request_id=${requestId}&tail=1`, other))[0]).toMatchObject({ request_id: requestId });
    await stage.manager.call(id, 'good morning');
    const both = await untilSaid(id, 'said good morning');
    expect(both.slice(0, kept.length)).toEqual(kept);
    expect(new Set(both.map(({ replica }) => replica)).size).toBe(2);
    await stage.manager.remove(id);
  });

  it('are followed: a line is seen within a second', async () => {
    const { id } = await stage.manager.add(TALKATIVE);
    await untilSaid(id, 'loading');
    const reader = (await follow(id, '?follow=true&tail=0')).read();
    expect(reader.status).toBe(200);
    const times: number[] = [];
    for (const word of ['one', 'two', 'three']) {
      await stage.manager.call(id, word);
      const began = performance.now();
      await reader.until(`"said ${word}"`);
      times.push(performance.now() - began);
    }
    expect(Math.min(...times)).toBeLessThan(1_000);
    expect(reader.text).not.toContain('loading');
    await stage.manager.remove(id);
    await reader.ended;
  });

  it('are followed across a sleep, and end with the function', async () => {
    const { id } = await stage.manager.add(TALKATIVE, { idle_timeout_ms: 300 });
    const reader = (await follow(id, '?follow=true')).read();
    await reader.until('loading');
    await vi.waitFor(async () => expect(await stage.room.workers()).toEqual([]), { timeout: 40_000 });
    await stage.manager.call(id, 'good morning');
    await reader.until('"said good morning"');
    const seen = reader.records.map((record) => ('line' in record ? record.line : 'missed'));
    expect(seen.filter((line) => line === 'loading')).toHaveLength(2);
    await stage.manager.remove(id);
    await reader.ended;
  });

  it('are server-sent events for whoever asks for them, who may resume after the last one read', async () => {
    const { id } = await stage.manager.add(TALKATIVE);
    const headers = { Accept: 'text/event-stream' };
    const reader = (await follow(id, '', headers)).read();
    expect(reader.headers['content-type']).toBe('text/event-stream');
    await stage.manager.call(id, 'one');
    await reader.until('whispered one');
    await reader.until('said one');
    reader.hangUp();
    const events = [...reader.text.matchAll(/^id: (.+)\ndata: (.+)\n\n/gm)].map(([, eventId, data]) => {
      const record = JSON.parse(data!) as LogRecord;
      expect(record.time).toBe(eventId);
      return record;
    });
    expect(events.map(({ line }) => line)).toEqual(expect.arrayContaining(['loading', 'said one']));
    await stage.manager.call(id, 'two');
    const last = events.at(-1)!.time;
    const resumed = (await follow(id, '?tail=10000', { ...headers, 'Last-Event-ID': last })).read();
    await resumed.until('said two');
    expect(resumed.text).not.toContain('said one');
    const once = await stage.manager.send(`/functions/${id}/logs?follow=false&tail=1`, { headers });
    expect(once.text).toMatch(/^id: .+\ndata: \{.+\}\n\n$/);
    await stage.manager.remove(id);
  });

  it('tell a client that reads too slowly how much it has missed', async () => {
    const { id } = await stage.manager.add(PRINTING, { timeoutMs: 20_000 });
    const reader = await follow(id, '?follow=true');
    // Each call may print so much, and the kernel keeps a few of them.
    for (let call = 0; call < 24; call += 1) await stage.manager.call(id, '900');
    reader.read();
    await stage.manager.call(id, '1');
    await reader.until('"missed"', 20_000);
    const missed = reader.records.find((record) => 'missed' in record);
    expectAsDocumented(missed, 'MissedLinesDto');
    // Lines go on being left out until the engine's log has been read up to its end.
    await vi.waitFor(
      async () => {
        await stage.manager.call(id, '1', { headers: { 'X-Request-Id': 'caught-up' } });
        await reader.until('caught-up', 1_000);
      },
      { timeout: 20_000 },
    );
    await stage.manager.call(id, '1', { headers: { 'X-Request-Id': 'after-the-gap' } });
    await reader.until('after-the-gap', 20_000);
    await stage.manager.remove(id);
  });

  it('are not harmed by what a hostile handler prints', async () => {
    const { id } = await stage.manager.add(HOSTILE);
    const requestId = randomUUID();
    await stage.manager.call(id, 'forge', { headers: { 'X-Request-Id': requestId } });
    const lines = await untilSaid(id, 'forged enough');
    const raw = await stage.manager.send(`/functions/${id}/logs`);
    // oxlint-disable-next-line no-control-regex -- none of which may reach a terminal
    expect(raw.text).not.toMatch(/[\0-\x08\x0b-\x1f\x7f]/);
    expect(lines).toContainEqual(expect.objectContaining({ line: '\\x1b[31mred\\x07' }));
    const forged = lines.filter(({ line }) => line.includes('forged'));
    expect(forged.length).toBeGreaterThanOrEqual(4);
    for (const { source, request_id: named, line } of forged) {
      expect({ source, line }).toMatchObject({ source: 'handler', line: expect.stringContaining('forged') as string });
      expect([null, requestId]).toContain(named);
    }
    expect(await linesOf(id, '?source=worker&tail=10000')).not.toContainEqual(
      expect.objectContaining({ line: expect.stringContaining('forged') as string }),
    );
    await stage.manager.call(id, 'flood');
    const flood = (await untilSaid(id, 'the end', '?tail=10000')).filter((record) => 'line' in record);
    expect(Math.max(...flood.map(({ line }) => line.length))).toBeLessThan(66_000);
    expect(flood.some(({ line }) => /z … \[\d+ characters cut\]$/.test(line))).toBe(true);
    await stage.manager.remove(id);
  });

  it('are followed by so many clients of one function and no more, and one that hangs up makes room', async () => {
    const { id } = await stage.manager.add(TALKATIVE);
    const followers = await Promise.all(Array.from({ length: 16 }, () => follow(id, '?follow=true&tail=0')));
    expect(followers.map(({ status }) => status)).toEqual(followers.map(() => 200));
    expectProblem(await stage.manager.send(`/functions/${id}/logs?follow=true`), 429, 'too_many_followers');
    expect(await linesOf(id, '?tail=1')).toHaveLength(1);
    followers[0]?.hangUp();
    const next = await vi.waitFor(
      async () => {
        const reader = await follow(id, '?follow=true&tail=0');
        expect(reader.status).toBe(200);
        return reader;
      },
      { timeout: 5_000, interval: 50 },
    );
    await stage.manager.call(id, 'hello');
    await next.read().until('said hello');
    await stage.manager.remove(id);
    await Promise.all([next, ...followers.slice(1)].map((reader) => reader.read().ended));
  });

  it('end for followers when their manager ends', async () => {
    const { id } = await stage.manager.add(TALKATIVE);
    const manager = await stage.start();
    const reader = (await LogReader.open(`${manager.url}/functions/${id}/logs?follow=true`)).read();
    const began = performance.now();
    await Promise.all([manager.stop(), reader.ended]);
    expect(performance.now() - began).toBeLessThan(10_000);
    expect((await linesOf(id)).length).toBeGreaterThan(0);
    await stage.manager.remove(id);
  });

  it.each([
    ['tail', 'tail=10001'],
    ['tail', 'tail=-1'],
    ['tail', 'tail=1&tail=2'],
    ['since', 'since=yesterday'],
    ['follow', 'follow=yes'],
    ['revision', 'revision=0'],
    ['replica', 'replica=a%20b'],
    ['request_id', `request_id=${'x'.repeat(65)}`],
    ['source', 'source=stdout'],
    ['tale', 'tale=1'],
  ])('refuse a wrong %s: %s', async (parameter, query) => {
    const answer = await stage.manager.send(`/functions/aaaaaaaaaaaaaaaa/logs?${query}`);
    expect(expectProblem(answer, 400, 'invalid_request')).toMatchObject({ parameter });
  });

  it('are of no function that nobody knows', async () => {
    for (const id of ['aaaaaaaaaaaaaaaa', 'nobody']) {
      expectProblem(await stage.manager.send(`/functions/${id}/logs?follow=true`), 404, 'function_not_found');
    }
    const head = await stage.manager.send('/functions/aaaaaaaaaaaaaaaa/logs', { method: 'HEAD' });
    expect(head.status).toBe(404);
    expectProblem(await stage.manager.send('/functions/a/logs', { method: 'POST' }), 405, 'method_not_allowed');
  });
});
