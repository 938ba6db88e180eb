import type { CoreV1Event, KubernetesObject } from '@kubernetes/client-node';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DeploymentEvents } from './deployment-events.js';
import type { Kind } from './kinds.js';

const DEPLOYMENT = { metadata: { name: 'faas-worker-one', uid: 'uid-1' } };
const silent = pino({ level: 'silent' });

let sent: CoreV1Event[];
let answer: () => Promise<unknown>;
let events: DeploymentEvents;

beforeEach(() => {
  vi.useFakeTimers();
  sent = [];
  answer = () => Promise.resolve();
  const apply = async <T extends KubernetesObject>(_kind: Kind, event: T) => {
    sent.push(event as KubernetesObject as CoreV1Event);
    await answer();
    return event;
  };
  events = new DeploymentEvents({ apply, namespace: 'functions' }, silent);
});
afterEach(() => vi.useRealTimers());

const settled = () => vi.advanceTimersByTimeAsync(1);

describe('DeploymentEvents', () => {
  it('tells one Event for each kind of change, which counts them', async () => {
    events.tell('one', DEPLOYMENT, { change: 'ScaledToZero', message: 'Scaled from 1 to 0' });
    await settled();
    events.tell('one', DEPLOYMENT, { change: 'ScaledFromZero', message: 'Scaled from 0 to 1' });
    await settled();
    for (const from of [2, 3]) {
      events.tell('one', DEPLOYMENT, { change: 'ScaledToZero', message: `Scaled from ${from} to 0` });
      await settled();
    }
    expect(sent).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(10_000);
    const told = sent.map(({ reason, message, count, type }) => ({ reason, message, count, type }));
    expect(told).toEqual([
      { reason: 'ScaledToZero', message: 'Scaled from 1 to 0', count: 1, type: 'Normal' },
      { reason: 'ScaledFromZero', message: 'Scaled from 0 to 1', count: 1, type: 'Normal' },
      { reason: 'ScaledToZero', message: 'Scaled from 3 to 0', count: 3, type: 'Normal' },
    ]);
    expect(sent[2]!.metadata.name).toBe(sent[0]!.metadata.name);
    expect(sent[1]!.metadata.name).not.toBe(sent[0]!.metadata.name);
    expect(sent[0]!.involvedObject).toMatchObject({ kind: 'Deployment', name: 'faas-worker-one', uid: 'uid-1' });
  });

  it('tells once what is seen again and again, such as a refusal that lasts', async () => {
    const refusal = { change: 'Refused', message: 'exceeded quota', at: new Date(5_000) } as const;
    for (const _ of [1, 2, 3]) events.tell('one', undefined, refusal);
    await settled();
    events.tell('one', undefined, { ...refusal, at: new Date(9_000) });
    await vi.advanceTimersByTimeAsync(10_000);
    expect(sent.map(({ count, type }) => ({ count, type }))).toEqual([
      { count: 1, type: 'Warning' },
      { count: 2, type: 'Warning' },
    ]);
  });

  it('holds no more than it may for an API server that doesn’t answer, drops the rest, and goes on after it', async () => {
    answer = () => new Promise(() => undefined);
    for (let at = 0; at < 300; at += 1) events.tell(`f${at}`, undefined, { change: 'Scaled', message: '' });
    expect(sent).toHaveLength(4);
    expect(events.dropped).toBe(300 - 4 - 256);
    answer = () => Promise.resolve();
    await vi.advanceTimersByTimeAsync(2_010);
    expect(events.dropped).toBe(300 - 4 - 256 + 4);
    expect(sent).toHaveLength(4 + 256);
  });

  it('counts what the API server refuses, and says it once', async () => {
    const warn = vi.spyOn(silent, 'warn');
    answer = () => Promise.reject(new Error('events is forbidden'));
    for (const id of ['one', 'two', 'three']) events.tell(id, undefined, { change: 'Scaled', message: '' });
    await settled();
    expect(events.dropped).toBe(3);
    expect(warn).toHaveBeenCalledOnce();
  });

  it('cuts a message that the API server would not take', async () => {
    events.tell('one', undefined, { change: 'Refused', message: 'x'.repeat(5_000) });
    await settled();
    expect(sent[0]!.message).toHaveLength(1_024);
  });
});
