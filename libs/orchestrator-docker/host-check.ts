import { createServer } from 'node:net';
import type { DockerEngine } from './docker-engine.js';

const LABEL = 'faas.check';
const CHECK_MS = 30_000;
const CONNECT_S = 5;
const CLOSED = 0;

const CONNECT = `
import signal, socket, sys
signal.alarm(${3 * CONNECT_S})
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), ${CONNECT_S}).close()
except OSError:
    sys.exit(${CLOSED})
sys.exit(3)
`;

export interface CheckPlace {
  readonly image: string;
  readonly network: string;
  /** The address this machine has on the network. */
  readonly gateway: string;
}

/**
 * Whether a container on the workers' network is kept from this machine: one of the workers' image tries to connect to
 * a port opened for that. Undefined: it is; else why not, or why nobody knows.
 */
export async function hostIsOpen(
  engine: DockerEngine,
  { image, network, gateway }: CheckPlace,
  closing: AbortSignal,
): Promise<string | undefined> {
  const signal = AbortSignal.any([closing, AbortSignal.timeout(CHECK_MS)]);
  await removeForgotten(engine, signal).catch(() => undefined);
  let reached = false;
  const server = createServer((socket) => {
    reached = true;
    socket.destroy();
  });
  try {
    const port = await new Promise<number>((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, gateway, () => {
        const address = server.address();
        resolve(typeof address === 'object' && address !== null ? address.port : 0);
      });
    });
    const config = {
      Image: image,
      Entrypoint: ['python3', '-c', CONNECT, gateway, String(port)],
      Cmd: [],
      User: '65532:65532',
      Labels: { [LABEL]: 'firewall' },
      HostConfig: {
        AutoRemove: true,
        NetworkMode: network,
        ReadonlyRootfs: true,
        CapDrop: ['ALL'],
        SecurityOpt: ['no-new-privileges'],
        Memory: 64 * 1024 * 1024,
        PidsLimit: 16,
      },
    };
    const status = await engine.runToEnd(config, CHECK_MS, signal);
    if (reached) return 'workers reach this machine';
    return status === CLOSED ? undefined : `a check from inside a container ended with status ${status}`;
  } catch (error) {
    return `a check from inside a container was not possible: ${(error as Error).message}`;
  } finally {
    server.close();
  }
}

/** The engine removes a container at its end; one whose manager died before it was started has none. */
async function removeForgotten(engine: DockerEngine, signal: AbortSignal): Promise<void> {
  const checks = await engine.list([LABEL], signal);
  const old = checks.filter(({ Created }) => Created * 1_000 < Date.now() - 2 * CHECK_MS);
  for (const { Id: id } of old) await engine.remove({ id, volume: undefined }, true, signal);
}
