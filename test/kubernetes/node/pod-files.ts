import { existsSync } from 'node:fs';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  ApiException,
  type CoreV1Api,
  type V1ConfigMap,
  type V1Container,
  type V1EnvVar,
  type V1EnvVarSource,
  type V1Pod,
  type V1Secret,
  type V1Volume,
} from '@kubernetes/client-node';

/** Why a container can't be made yet: a reason of the kubelet's and its sentence. */
export class NotYet extends Error {
  constructor(
    readonly reason: 'ContainerCreating' | 'CreateContainerConfigError',
    message: string,
  ) {
    super(message);
  }
}

/** What a pod takes from the objects that it names. */
export class PodFiles {
  constructor(
    private readonly core: CoreV1Api,
    private readonly pod: V1Pod,
    private readonly podIP: string,
    /** Of volumes that all containers of the pod share, and of claims that all pods of its namespace do. */
    private readonly folders: { readonly pod: string; readonly claims: string },
  ) {}

  /** Lays out a container's own root: what its volumes hold, at the paths where they are mounted. */
  async layOut(root: string, { volumeMounts = [] }: V1Container): Promise<void> {
    const volumes = new Map(this.pod.spec?.volumes?.map((volume) => [volume.name, volume]));
    for (const { mountPath, name } of volumeMounts) {
      const folder = join(root, mountPath);
      const shared = this.sharedBy(volumes.get(name));
      if (shared !== undefined) {
        if (existsSync(folder)) continue;
        await mkdir(shared, { recursive: true });
        await mkdir(dirname(folder), { recursive: true });
        await symlink(shared, folder);
        continue;
      }
      await mkdir(folder, { recursive: true });
      const files = await this.filesOf(volumes.get(name));
      for (const [name, content] of files) await writeFile(join(folder, name), content);
    }
  }

  /**
   * A container's environment, with variables in the place of `$(NAME)` as the kubelet puts them there. A value that is a path inside one of its mounts becomes that path below the container's
   * root, since its process sees this machine's.
   */
  async environment(root: string, container: V1Container): Promise<Record<string, string>> {
    const { env = [] } = container;
    const entries = env.map(async ({ name, value, valueFrom }) => {
      const given = (value && expanded(value, env)) ?? (await this.referred(valueFrom)) ?? '';
      return [name, this.pathOf(root, container, given)] as const;
    });
    return Object.fromEntries(await Promise.all(entries));
  }

  /** What a container calls a path inside one of its mounts, as its process sees it; anything else as it is. */
  pathOf(root: string, { volumeMounts = [] }: V1Container, word: string): string {
    const isMounted = volumeMounts.some(({ mountPath }) => word === mountPath || word.startsWith(`${mountPath}/`));
    return isMounted ? join(root, word) : word;
  }

  /** The folder of a volume that containers write to. Nobody here keeps those from it that may only read. */
  private sharedBy(volume: V1Volume | undefined): string | undefined {
    const { name = '', emptyDir, persistentVolumeClaim: claim } = volume ?? {};
    if (claim !== undefined) return join(this.folders.claims, claim.claimName);
    return emptyDir === undefined ? undefined : join(this.folders.pod, name);
  }

  private async filesOf(volume: V1Volume | undefined): Promise<[string, Buffer][]> {
    const { configMap, secret } = volume ?? {};
    const source = configMap ?? secret;
    if (source === undefined) return [];
    const kind = configMap === undefined ? 'secret' : 'configmap';
    const name = configMap?.name ?? secret?.secretName ?? '';
    const content = await this.contentOf(kind, name);
    if (content === undefined && source.optional !== true) {
      throw new NotYet('ContainerCreating', `${kind} "${name}" not found`);
    }
    const paths = source.items && new Map(source.items.map(({ key, path }) => [key, path]));
    return [...(content ?? [])].flatMap(([key, bytes]) => {
      const path = paths === undefined ? key : paths.get(key);
      return path === undefined ? [] : [[path, bytes] as [string, Buffer]];
    });
  }

  private async referred(source: V1EnvVarSource | undefined): Promise<string | undefined> {
    const { fieldRef, configMapKeyRef, secretKeyRef } = source ?? {};
    if (fieldRef !== undefined) return this.field(fieldRef.fieldPath);
    const reference = configMapKeyRef ?? secretKeyRef;
    if (reference === undefined) return undefined;
    const { name = '', key, optional } = reference;
    const kind = configMapKeyRef === undefined ? 'secret' : 'configmap';
    const content = await this.contentOf(kind, name);
    const value = content?.get(key);
    if (value !== undefined || optional === true) return value?.toString();
    throw new NotYet(
      'CreateContainerConfigError',
      content === undefined ? `${kind} "${name}" not found` : `couldn't find key ${key}`,
    );
  }

  private async contentOf(kind: 'configmap' | 'secret', name: string): Promise<Map<string, Buffer> | undefined> {
    const namespace = this.pod.metadata?.namespace ?? '';
    try {
      const object: V1ConfigMap & V1Secret =
        kind === 'secret'
          ? await this.core.readNamespacedSecret({ namespace, name })
          : await this.core.readNamespacedConfigMap({ namespace, name });
      const { data = {}, binaryData = {} } = object as V1ConfigMap;
      const encoding = kind === 'secret' ? 'base64' : 'utf8';
      return new Map([
        ...Object.entries(data).map(([key, text]) => [key, Buffer.from(text, encoding)] as const),
        ...Object.entries(binaryData).map(([key, text]) => [key, Buffer.from(text, 'base64')] as const),
      ]);
    } catch (error) {
      if (error instanceof ApiException && error.code === 404) return undefined;
      throw error;
    }
  }

  private field(path: string): string | undefined {
    const { name, namespace, uid, labels, annotations } = this.pod.metadata ?? {};
    const known: Readonly<Record<string, string | undefined>> = {
      'metadata.name': name,
      'metadata.namespace': namespace,
      'metadata.uid': uid,
      'spec.nodeName': this.pod.spec?.nodeName,
      'spec.serviceAccountName': this.pod.spec?.serviceAccountName,
      'status.podIP': this.podIP,
      'status.hostIP': '127.0.0.1',
    };
    const keyed = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(path);
    if (keyed !== null) return (keyed[1] === 'labels' ? labels : annotations)?.[keyed[2] ?? ''];
    return known[path];
  }
}

/** https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/ */
function expanded(value: string, env: readonly V1EnvVar[]): string {
  return value.replace(/\$\$|\$\(([^)]*)\)/g, (whole, name: string | undefined) => {
    return name === undefined ? '$' : (env.find((one) => one.name === name)?.value ?? whole);
  });
}
