import { HttpMethod, KubeConfig, type KubernetesObject, PatchStrategy, RequestContext } from '@kubernetes/client-node';
import { type Dispatcher, request } from 'undici';
import { afterAll, beforeAll } from 'vitest';
import { controlPlane } from '../control-plane/shared.js';
import { FunctionsNamespace } from './functions-namespace.js';

interface Resources {
  readonly resources: readonly { readonly name: string; readonly kind: string; readonly namespaced: boolean }[];
}

const APPLY = new URLSearchParams({ dryRun: 'All', fieldValidation: 'Strict', fieldManager: 'test', force: 'true' });

/** Asks the API server about objects without making them. */
export class DryRun {
  private namespace!: FunctionsNamespace;

  static on(): DryRun {
    const dryRun = new DryRun();
    beforeAll(async () => {
      const admin = new KubeConfig();
      admin.loadFromString((await controlPlane()).kubeconfig);
      dryRun.namespace = new FunctionsNamespace(admin);
      await dryRun.namespace.install();
    });
    afterAll(async () => {
      await dryRun.namespace.core.deleteNamespace({ name: dryRun.namespace.namespace });
    });
    return dryRun;
  }

  /** Why it would refuse the object, in a namespace that is there; undefined when it would take it. */
  async refusalOf(object: KubernetesObject): Promise<string | undefined> {
    const { admin, namespace } = this.namespace;
    const { apiVersion = '', kind } = object;
    const group = apiVersion === 'v1' ? '/api/v1' : `/apis/${apiVersion}`;
    const { resources = [] } = (await ask(admin, HttpMethod.GET, group)).body as Partial<Resources>;
    const found = resources.find((one) => one.kind === kind && !one.name.includes('/'));
    if (found === undefined) return `There is no ${kind} in ${apiVersion}.`;
    const path = found.namespaced ? `${group}/namespaces/${namespace}` : group;
    const placed = found.namespaced ? { ...object, metadata: { ...object.metadata, namespace } } : object;
    // The client library leaves out what its types don't have, which is what this is about.
    const applied = `${path}/${found.name}/${object.metadata?.name}?${APPLY.toString()}`;
    const { status, body } = await ask(admin, HttpMethod.PATCH, applied, placed);
    return status < 300 ? undefined : (body as { message?: string }).message;
  }
}

async function ask(
  admin: KubeConfig,
  method: HttpMethod,
  path: string,
  sent?: object,
): Promise<{ status: number; body: unknown }> {
  const context = new RequestContext(`${admin.getCurrentCluster()!.server}${path}`, method);
  await admin.applySecurityAuthentication(context);
  const dispatcher = context.getDispatcher();
  const answer = await request(context.getUrl(), {
    method: method as Dispatcher.HttpMethod,
    headers: { ...context.getHeaders(), ...(sent && { 'content-type': PatchStrategy.ServerSideApply }) },
    ...(sent && { body: JSON.stringify(sent) }),
    ...(dispatcher !== undefined && { dispatcher }),
  });
  return { status: answer.statusCode, body: await answer.body.json() };
}
