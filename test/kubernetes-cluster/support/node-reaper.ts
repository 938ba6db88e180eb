import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { type CoreV1Api, Exec, type KubeConfig } from '@kubernetes/client-node';
import { vi } from 'vitest';

const READY_MS = 60_000;

/** Finds the first process of a container by what the node's kernel says of every process, and kills it. */
const KILL = `
import os, signal, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if sys.argv[1] not in open(f"/proc/{pid}/cgroup").read():
            continue
        status = open(f"/proc/{pid}/status").read()
        inside = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1]
        if inside == "1":
            os.kill(int(pid), signal.SIGKILL)
            print("killed", pid)
    except (FileNotFoundError, ProcessLookupError):
        pass
`;

/**
 * A pod that may kill others' processes, as a node's own faults do: nothing inside a worker can. It has a namespace of
 * its own, because that of functions allows no such pod.
 */
export class NodeReaper {
  private constructor(
    private readonly admin: KubeConfig,
    private readonly core: CoreV1Api,
    private readonly namespace: string,
  ) {}

  static async start(admin: KubeConfig, core: CoreV1Api, namespace: string, image: string): Promise<NodeReaper> {
    await core.createNamespace({ body: { metadata: { name: namespace } } });
    await core.createNamespacedPod({
      namespace,
      body: {
        metadata: { name: 'reaper' },
        spec: {
          hostPID: true,
          terminationGracePeriodSeconds: 0,
          tolerations: [{ operator: 'Exists' }],
          containers: [
            {
              name: 'reaper',
              image,
              command: ['python3', '-c', 'import time; time.sleep(86400)'],
              securityContext: { privileged: true, runAsUser: 0 },
            },
          ],
        },
      },
    });
    await vi.waitFor(
      async () => {
        const { status } = await core.readNamespacedPod({ name: 'reaper', namespace });
        if (status?.phase !== 'Running') throw new Error(`The reaper is ${status?.phase}.`);
      },
      { timeout: READY_MS, interval: 200 },
    );
    return new NodeReaper(admin, core, namespace);
  }

  /** `containerId`: its beginning, as a replica's id has it. Answers whether there was such a process. */
  async kill(containerId: string): Promise<boolean> {
    const output = new PassThrough();
    const command = ['python3', '-c', KILL, containerId];
    const exec = new Exec(this.admin);
    const socket = await exec.exec(this.namespace, 'reaper', 'reaper', command, output, output, null, false);
    const [said] = await Promise.all([text(output), once(socket, 'close').then(() => output.end())]);
    return said.includes('killed');
  }

  async close(): Promise<void> {
    await this.core.deleteNamespace({ name: this.namespace });
  }
}
