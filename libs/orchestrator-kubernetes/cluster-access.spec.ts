import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HttpMethod, RequestContext } from '@kubernetes/client-node';
import { errors, request } from 'undici';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { accessCluster, ClusterAccess, NoCluster } from './cluster-access.js';
import { ScriptedApi } from './testing/scripted-api.js';

const folder = mkdtempSync(join(tmpdir(), 'faas-access-'));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllEnvs();
});

function file(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const config = (context: string) =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'one', cluster: { server: 'https://one.example:6443/' } }],
    users: [{ name: 'me', user: { token: 't' } }],
    contexts: [
      { name: 'good', context: { cluster: 'one', user: 'me' } },
      { name: 'torn', context: { cluster: 'gone', user: 'me' } },
    ],
    'current-context': context,
  });

function whyNone(kubeconfig: string | undefined): string {
  try {
    accessCluster(kubeconfig, false);
  } catch (error) {
    expect(error).toBeInstanceOf(NoCluster);
    return (error as Error).message;
  }
  throw new Error('A cluster was found.');
}

describe('accessCluster', () => {
  it('takes the cluster of the current context', () => {
    expect(accessCluster(file('good', config('good')), false).server).toBe('https://one.example:6443');
  });

  it('takes several files for one, in which the first to name something wins', () => {
    const second = file('second', config('torn').replaceAll('"torn"', '"more"').replace('one.example', 'two.example'));
    const access = accessCluster(`${file('good', config('good'))}:${second}:`, false);
    expect(access.getContexts().map(({ name }) => name)).toEqual(['good', 'torn', 'more']);
    expect(access.server).toBe('https://one.example:6443');
  });

  it('says where it looked when there is none', () => {
    vi.stubEnv('HOME', folder);
    expect(whyNone(undefined)).toMatch(/KUBECONFIG is not set and ~\/\.kube\/config is not there/);
  });

  it.each([
    ['is missing', join(folder, 'nowhere'), /nowhere can't be read: .*ENOENT/],
    ['is no YAML', file('broken', 'clusters: [{'), /broken can't be read: /],
    ['says no context', file('none', config('')), /no usable current context: choose one with kubectl/],
    ['says one that isn’t there', file('strange', config('strange')), /"strange" lacks its cluster or user/],
    ['says one without its cluster', file('torn', config('torn')), /"torn" lacks its cluster or user/],
    ['is empty', file('empty', ''), /empty (can't be read|has no usable current context)/],
    ['holds something else', file('else', '[1, 2]'), /else (can't be read|has no usable current context)/],
  ])('says what is wrong with a kubeconfig that %s', (_what, path, why) => {
    expect(whyNone(path)).toMatch(why);
  });
});

describe('ClusterAccess', () => {
  const dispatcherOf = async (access: ClusterAccess) => {
    const context = new RequestContext('https://one.example', HttpMethod.GET);
    await access.applySecurityAuthentication(context);
    return context.getDispatcher()!;
  };

  it('keeps its connections, and after a while lets go of them without cutting what goes on', async () => {
    let goOn = (): void => undefined;
    const api = await ScriptedApi.open((_asked, response) => {
      response.write('begun');
      goOn = () => void response.end(', done');
    });
    const dispatcher = await dispatcherOf(api.access);
    const { body } = await request(`${api.access.server}/watch`, { dispatcher });
    vi.useFakeTimers({ toFake: ['Date', 'setTimeout'] });
    expect(await dispatcherOf(api.access)).toBe(dispatcher);
    await vi.advanceTimersByTimeAsync(6 * 60_000);
    expect(await dispatcherOf(api.access)).not.toBe(dispatcher);
    await vi.advanceTimersByTimeAsync(2 * 60_000);
    await expect(request(api.access.server, { dispatcher })).rejects.toThrow(errors.ClientClosedError);
    goOn();
    expect(await body.text()).toBe('begun, done');
    api.close();
  });

  it('ends every connection at last, also those it let go of', async () => {
    vi.useFakeTimers();
    const access = accessCluster(file('good', config('good')), false);
    access.clusters = [{ ...access.clusters[0]!, skipTLSVerify: true }];
    const first = await dispatcherOf(access);
    await vi.advanceTimersByTimeAsync(6 * 60_000);
    const second = await dispatcherOf(access);
    const ended = [first, second].map((dispatcher) => vi.spyOn(dispatcher, 'destroy'));
    access.close();
    for (const destroy of ended) expect(destroy).toHaveBeenCalled();
  });
});
