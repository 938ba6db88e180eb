import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Controls, Role } from './controls.js';
import type { ApiOptions } from './options.js';
import type { KubernetesApi } from './start.js';

interface Announcement {
  readonly url: string;
  readonly namespace: string;
  readonly controlUrl: string;
  readonly kubeconfigs: Readonly<Record<Role, string>>;
}

/** The same as `start`, as a process that outlives whatever happens to managers. It ends with the one that started it. */
export async function startProcess(options: ApiOptions = {}): Promise<KubernetesApi & { readonly pid: number }> {
  const program = fileURLToPath(new URL('./run.mjs', import.meta.url));
  const child = spawn(process.execPath, [program, JSON.stringify(options)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const line = await Promise.race([
    once(createInterface({ input: child.stdout }), 'line').then(([text]) => String(text)),
    exited.then(([code]) =>
      Promise.reject(new Error(`The Kubernetes API ended with status ${code} while it started.`)),
    ),
  ]);
  const { url, namespace, controlUrl, kubeconfigs } = JSON.parse(line) as Announcement;
  return {
    url,
    namespace,
    pid: child.pid ?? 0,
    controls: remoteControls(controlUrl),
    kubeconfig: (role) => kubeconfigs[role],
    stop: async () => {
      child.stdin.end();
      await exited;
    },
  };
}

function remoteControls(url: string): Controls {
  return new Proxy({} as Controls, {
    get:
      (_target, name) =>
      async (...given: unknown[]) => {
        const response = await fetch(`${url}/${String(name)}`, { method: 'POST', body: JSON.stringify(given) });
        const { result, error } = (await response.json()) as { result?: unknown; error?: string };
        if (error !== undefined) throw new Error(error);
        return result;
      },
  });
}
