import { BlockList, createServer } from 'node:net';
import type { EgressRange } from '#libs/config/egress-range.js';
import type { DockerEngine } from './docker-engine.js';
import { isImageMissing } from './engine-fault.js';

const LABEL = 'faas.check';
const CHECK_MS = 30_000;
const CONNECT_S = 3;
/** The machine itself refuses within microseconds; anything farther away rarely so quickly, and mostly not at all. */
const AT_ONCE_S = 1;

/** What a cloud tells its machines, and an address that nobody has: what refuses a connection there is a rule. */
const PROBED = ['169.254.169.254', '192.0.2.1'] as const;
const PROBED_PORT = 80;

/** The status says which of the addresses was the first to be amiss, and how. */
const CONNECTED = 1;
const SILENT = 2;
const UNREACHABLE = 3;
const WAYS: Readonly<Record<number, string>> = {
  [CONNECTED]: 'was made',
  [SILENT]: 'was not refused at once',
  [UNREACHABLE]: 'failed in another way than by being refused',
};
const STEP = 10;
const NO_SUCH_PROGRAM = 127;

const CHECK = `
import socket, sys, time
def way(host, port):
    began = time.monotonic()
    try:
        socket.create_connection((host, int(port)), ${CONNECT_S}).close()
        return ${CONNECTED}
    except ConnectionRefusedError:
        return 0 if time.monotonic() - began < ${AT_ONCE_S} else ${SILENT}
    except TimeoutError:
        return ${SILENT}
    except OSError:
        return ${UNREACHABLE}
host, port, *others = sys.argv[1:]
if way(host, port) == ${CONNECTED}:
    sys.exit(${CONNECTED})
for number, other in enumerate(others, 1):
    found = way(other, ${PROBED_PORT})
    if found:
        sys.exit(${STEP} * number + found)
`;

export interface CheckPlace {
  readonly image: string;
  readonly network: string;
  /** The address this machine has on the network. */
  readonly gateway: string;
  /** Nothing leads out of the network. */
  readonly internal: boolean;
  /** What workers may reach all the same. */
  readonly allow: readonly EgressRange[];
}

/** The engine has no image yet to check with. */
export class NoImageYet extends Error {}

/**
 * Whether a container on the workers' network is kept from this machine and from private addresses: one of the workers'
 * image tries to connect to a port opened for that, and to addresses at which only a rule refuses at once. Undefined: it
 * is; else why not, or why nobody knows. Throws {@link NoImageYet}.
 */
export async function hostIsOpen(
  engine: DockerEngine,
  { image, network, gateway, internal, allow }: CheckPlace,
  closing: AbortSignal,
): Promise<string | undefined> {
  const signal = AbortSignal.any([closing, AbortSignal.timeout(CHECK_MS)]);
  await removeForgotten(engine, signal).catch(() => undefined);
  const probed = internal ? [] : PROBED.filter((address) => !isAllowed(address, allow));
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
      Entrypoint: ['python3', '-c', CHECK, gateway, String(port), ...probed],
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
    return reached ? 'workers reach this machine' : faultOf(status, probed);
  } catch (error) {
    const { message } = error as Error;
    if (isImageMissing(error)) throw new NoImageYet(message);
    if (isAboutProgram(message)) return faultOf(NO_SUCH_PROGRAM, probed);
    return `a check from inside a container was not possible: ${message}`;
  } finally {
    server.close();
  }
}

/** What the check's exit status says; undefined when all was refused that has to be. */
function faultOf(status: number, probed: readonly string[]): string | undefined {
  if (status === 0) return undefined;
  if (status === CONNECTED) return 'workers reach this machine';
  if (status === NO_SUCH_PROGRAM) {
    return 'what workers reach can’t be checked, as their image has no python3 to do it with';
  }
  const address = probed[Math.floor(status / STEP) - 1];
  const way = WAYS[status % STEP];
  if (address === undefined || way === undefined) {
    return `a check from inside a container ended with status ${status}`;
  }
  return `workers may reach private addresses: a connection from a container to ${address}:${PROBED_PORT} ${way}`;
}

function isAllowed(address: string, allow: readonly EgressRange[]): boolean {
  const open = new BlockList();
  for (const { family, cidr, port } of allow) {
    const [base = '', prefix] = cidr.split('/');
    if (family === 4 && (port ?? PROBED_PORT) === PROBED_PORT) open.addSubnet(base, Number(prefix), 'ipv4');
  }
  return open.check(address);
}

function isAboutProgram(message: string): boolean {
  return /executable file not found|python3.*no such file/i.test(message);
}

/** The engine removes a container at its end; one whose manager died before it was started has none. */
async function removeForgotten(engine: DockerEngine, signal: AbortSignal): Promise<void> {
  const checks = await engine.list([LABEL], signal);
  const old = checks.filter(({ Created }) => Created * 1_000 < Date.now() - 2 * CHECK_MS);
  for (const { Id: id } of old) await engine.remove({ id, volume: undefined }, true, signal);
}
