import { afterEach, describe, expect, it, vi } from 'vitest';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import { CONFIG_MAP, DEPLOYMENT, POD } from './kinds.js';
import { KubeApi, requestBody } from './kube-api.js';
import { json, refuse, ScriptedApi } from './testing/scripted-api.js';
import fc from 'fast-check';

let server: ScriptedApi;
afterEach(() => server.close());

async function apiOn(answer: Parameters<typeof ScriptedApi.open>[0]): Promise<KubeApi> {
  server = await ScriptedApi.open(answer);
  return new KubeApi(server.access, 'functions');
}

const signal = AbortSignal.timeout(30_000);

describe('KubeApi', () => {
  it('applies as one manager, by force, and refuses fields that the server doesn’t know', async () => {
    const api = await apiOn((asked, response) => json(response, 200, JSON.parse(asked.body)));
    const manifest = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'a' }, data: { code: 'ü\u2028\u0085' } };
    expect(await api.apply(CONFIG_MAP, manifest, signal)).toEqual(manifest);
    expect(server.asked).toHaveLength(1);
    expect(server.asked[0]).toMatchObject({
      method: 'PATCH',
      headers: { 'content-type': 'application/apply-patch+yaml', authorization: 'Bearer the-token' },
    });
    expect(server.asked[0]?.url.pathname).toBe('/api/v1/namespaces/functions/configmaps/a');
    expect(Object.fromEntries(server.asked[0]!.url.searchParams)).toEqual({
      fieldManager: 'service-faas',
      force: 'true',
      fieldValidation: 'Strict',
    });
    expect(server.asked[0]?.body).not.toMatch(/[\u0085\u2028]/);
  });

  it('comes again when a busy API server says, and not before', async () => {
    const times: number[] = [];
    const api = await apiOn((_asked, response) => {
      times.push(performance.now());
      if (times.length > 1) json(response, 200, { items: [] });
      else json(response, 429, { kind: 'Status' }, { 'retry-after': '1' });
    });
    expect(await api.list(POD, 'a=b', signal)).toEqual({ items: [] });
    expect(times).toHaveLength(2);
    expect(times[1]! - times[0]!).toBeGreaterThanOrEqual(990);
  });

  it('stops coming again when its caller leaves', async () => {
    const leaving = new AbortController();
    const api = await apiOn((_asked, response) => {
      json(response, 429, { kind: 'Status' }, { 'retry-after': '3600' });
      response.once('finish', () => leaving.abort(new Error('enough')));
    });
    await expect(api.list(POD, 'a=b', leaving.signal)).rejects.toThrow('enough');
    expect(server.asked).toHaveLength(1);
  });

  it('says once that the cluster can’t be reached when the kubeconfig gives no credentials', async () => {
    const api = await apiOn((_asked, response) => json(response, 200, { items: [] }));
    vi.spyOn(server.access, 'applySecurityAuthentication').mockRejectedValue(new Error('the login program failed'));
    await expect(api.list(POD, 'a=b', signal)).rejects.toThrow(
      /^The Kubernetes engine can't be reached: the kubeconfig's credentials can't be had: the login program failed$/,
    );
    expect(server.asked).toEqual([]);
  });

  it('takes what is gone for removed, and for not found', async () => {
    const api = await apiOn((_asked, response) => refuse(response, 404, 'NotFound', 'not found'));
    await api.delete(DEPLOYMENT, 'a', {}, signal);
    expect(await api.find(DEPLOYMENT, 'a', signal)).toBeUndefined();
  });

  it('reads a list without items as an empty one', async () => {
    const api = await apiOn((_asked, response) => json(response, 200, { metadata: {}, items: null }));
    expect((await api.listMetadata(CONFIG_MAP, 'a=b', signal)).items).toEqual([]);
    expect(server.asked[0]?.headers.accept).toContain('PartialObjectMetadataList');
  });

  it.each<[string, Parameters<typeof ScriptedApi.open>[0]]>([
    ['hangs up', (_asked, response) => void response.destroy()],
    ['breaks off', (_asked, response) => void response.writeHead(200).write('{"items"', () => response.destroy())],
    ['has failed', (_asked, response) => refuse(response, 500, 'InternalError', 'etcd is away')],
    ['doesn’t know us', (_asked, response) => refuse(response, 401, 'Unauthorized', 'Unauthorized')],
  ])('calls an API server that %s unavailable', async (_what, answer) => {
    const api = await apiOn(answer);
    await expect(api.list(POD, 'a=b', signal)).rejects.toThrow(OrchestratorUnavailable);
  });

  it('calls one that isn’t there unavailable, also to a ping', async () => {
    const api = await apiOn(() => undefined);
    server.close();
    await expect(api.ping(signal)).rejects.toThrow(OrchestratorUnavailable);
  });

  it('sends nothing for a caller that has left', async () => {
    const api = await apiOn((_asked, response) => json(response, 200, {}));
    await expect(api.ping(AbortSignal.abort(new Error('left')))).rejects.toThrow('left');
    expect(server.asked).toEqual([]);
  });
});

/** What YAML 1.1 lets stand in a document, without the breaks that it folds: next line, line and paragraph separator. */
const PRINTABLE = /^[\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\u{10000}-\u{10ffff}]*$/u;

describe('requestBody', () => {
  it.each(['\u0085', '\u2028', '\u2029', '\u007f', '\u0090', '\ufeff', '\ufffe', '\uffff', '\0', '\r\n', '"\\'])(
    'carries %j to a reader of YAML as to one of JSON',
    (character) => {
      const code = `a = 'x ${character} y'\n`;
      const body = requestBody({ data: { 'handler.py': code } });
      expect(body).toMatch(PRINTABLE);
      expect(JSON.parse(body)).toEqual({ data: { 'handler.py': code } });
    },
  );

  it('holds for every text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (code) => {
        const body = requestBody({ code });
        expect(body).toMatch(PRINTABLE);
        expect(JSON.parse(body)).toEqual({ code });
      }),
    );
  });
});
