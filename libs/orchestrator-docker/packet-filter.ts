import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Chain, Family } from './firewall-rules.js';
import { removals, repairs } from './rule-scripts.js';

const COMMAND_MS = 10_000;
/** While others change rules, programs give up or take seconds to read. */
const TRY_FOR_MS = 20_000;
/** Twice as long each time, up to the longest. */
const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 640;
/** Of rules, on a machine that has many others. */
const MOST_OUTPUT_BYTES = 32 * 1024 * 1024;
/** Services often lack the folders of an administrator's programs. */
const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;

const RESOLV_CONF = '/etc/resolv.conf';
const RESOLVED_CONF = '/run/systemd/resolve/resolv.conf';
const DAEMON_CONF = '/etc/docker/daemon.json';
const TRACKED_MOST = '/proc/sys/net/netfilter/nf_conntrack_max';
const TRACKED_DEFAULT = 65_536;

/** Families of addresses that this machine's kernel knows. */
export function families(): readonly Family[] {
  return existsSync('/proc/net/if_inet6') ? [4, 6] : [4];
}

/** Whether this process shares the network namespace of the bridge. */
export function hasInterface(name: string): boolean {
  return existsSync(`/sys/class/net/${name}`);
}

/** Connections that the kernel of this machine can track at once. */
export async function trackedMost(): Promise<number> {
  const text = await readFile(TRACKED_MOST, 'utf8').catch(() => '');
  return Number(text) || TRACKED_DEFAULT;
}

/**
 * Brings the rules of one family to what is wanted, and then takes away those of bridges that are gone, as far as other
 * managers, who do the same, let it. Rejects with the program's own words where this process may not.
 */
export async function ensureChains(family: Family, wanted: readonly Chain[]): Promise<void> {
  const program = family === 4 ? 'iptables' : 'ip6tables';
  await bring(program, (saved) => repairs(saved, wanted));
  await bring(program, (saved) => removals(saved, wanted, hasInterface)).catch(() => undefined);
}

/** Others may change rules at the same time, so it looks again at what came out, and tries again what failed. */
async function bring(program: string, scriptFor: (saved: string) => string | undefined): Promise<void> {
  const until = Date.now() + TRY_FOR_MS;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs *= 2) {
    const isLast = pauseMs > LONGEST_PAUSE_MS || Date.now() > until;
    try {
      const script = scriptFor(await run(`${program}-save`, ['-t', 'filter']));
      if (script === undefined) return;
      await run(`${program}-restore`, ['-w', '5', '--noflush'], script);
    } catch (error) {
      if (isLast || !isWorthAnotherTry(error)) throw error;
    }
    if (isLast) return;
    await delay(pauseMs * (0.5 + Math.random()));
  }
}

/** Not where this process may not, or the program isn't there or hangs. */
function isWorthAnotherTry(error: unknown): boolean {
  return !/permission denied|not permitted|must be root|is not installed|did not end/i.test((error as Error).message);
}

/** Settles in time even when the program can't be killed. */
function run(program: string, args: readonly string[], input = ''): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const late = setTimeout(() => reject(new Error(`${program} did not end in ${COMMAND_MS} ms`)), COMMAND_MS + 1_000);
  const options = {
    timeout: COMMAND_MS,
    killSignal: 'SIGKILL',
    maxBuffer: MOST_OUTPUT_BYTES,
    env: { ...process.env, PATH },
  } as const;
  const child = execFile(program, args, options, (error, stdout, stderr) => {
    clearTimeout(late);
    if (error === null) resolve(stdout);
    else reject(new Error(`${program}: ${reasonOf(error, stderr)}`, { cause: error }));
  });
  // It may end, or not even start, before it has read everything.
  child.stdin?.on('error', () => undefined);
  child.stdin?.end(input);
  return promise;
}

function reasonOf(error: Error, stderr: string): string {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'is not installed';
  // Newer ones say in the second line what is wrong.
  return (
    stderr
      .trim()
      .split(/\s*\n\s*/)
      .slice(0, 3)
      .join(' ')
      .slice(0, 300) || error.message.slice(0, 300)
  );
}

/**
 * Whether a refusal may come from a kernel, or an iptables, without an extension that a rule asks for. Some only say
 * which line of their input the kernel didn't take.
 */
export function lacksExtension(refusal: string): boolean {
  return /couldn't load match|no chain\/target\/match|extension|missing kernel module|line:? \d+:? failed|RULE_(APPEND|INSERT) failed/i.test(
    refusal,
  );
}

/**
 * Addresses that the engine of this machine asks for names, as far as its files tell. Older engines ask from inside
 * the container's network namespace, so that the rules would hold them up.
 */
export async function nameservers(): Promise<readonly string[]> {
  const [resolv, resolved, daemon] = await Promise.all(
    [RESOLV_CONF, RESOLVED_CONF, DAEMON_CONF].map((path) => readFile(path, 'utf8').catch(() => '')),
  );
  return nameserversIn(resolv ?? '', resolved ?? '', daemon ?? '');
}

/** As the engine reads them: its own setting first, and the real ones where systemd's stub stands in for them. */
export function nameserversIn(resolv: string, resolved: string, daemon: string): readonly string[] {
  const configured = configuredDns(daemon);
  if (configured.length > 0) return configured;
  const listed = serversOf(resolv);
  const servers = listed.every((address) => address === '127.0.0.53') ? serversOf(resolved) : listed;
  // The engine asks those of loopback from where it runs itself.
  return servers.filter((address) => !/^(127\.|::1$)/.test(address));
}

function serversOf(text: string): string[] {
  return [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].flatMap(([, address = '']) => (isIP(address) ? [address] : []));
}

function configuredDns(daemon: string): string[] {
  try {
    const { dns } = JSON.parse(daemon) as { dns?: unknown };
    return Array.isArray(dns) ? dns.filter((one) => typeof one === 'string' && isIP(one) !== 0) : [];
  } catch {
    return [];
  }
}
