import type { Handler } from './handlers.js';
import type { ManagerProcess } from './manager-process.js';

/** What a client got: a whole answer, a connection that broke, or nothing at all within the time it should take. */
export type Reply =
  | { readonly kind: 'answer'; readonly status: number; readonly code: string | undefined; readonly body: Buffer }
  | { readonly kind: 'broken'; readonly reason: string; readonly excused: boolean }
  | { readonly kind: 'hung'; readonly afterMs: number };

export interface FunctionRow {
  readonly id: string;
  readonly status: string;
}

const QUICK_MS = 10_000;
/** The longest an upload may take: its readiness, then the wait for its taking back, with some room. */
const UPLOAD_MS = 50_000;
const REMOVE_MS = 45_000;
/** The longest a call may take: waiting for a slot, its time limit and the post-mortem, with some room. */
const CALL_MS = 30_000;

/** A manager's client, which never waits for ever. A broken connection is excused only when the manager was killed. */
export class Caller {
  constructor(private readonly manager: ManagerProcess) {}

  upload(
    { code, functionName, scaling }: Pick<Handler, 'code' | 'functionName' | 'scaling'>,
    timeoutMs: number,
  ): Promise<Reply> {
    const form = new FormData();
    form.set('function_name', functionName);
    form.set('timeout_ms', String(timeoutMs));
    for (const [name, value] of Object.entries(scaling)) form.set(name, value);
    form.set('python_file', new Blob([new Uint8Array(code)]), 'handler.py');
    return this.send('POST', '/functions', UPLOAD_MS, form);
  }

  execute(id: string, payload: string): Promise<Reply> {
    return this.send('POST', `/functions/${id}/execute`, CALL_MS, JSON.stringify({ payload }));
  }

  /** A call for later; the same key again is the same call. */
  later(id: string, body: object, key: string): Promise<Reply> {
    const headers = { 'Idempotency-Key': key };
    return this.send('POST', `/functions/${id}/invocations`, QUICK_MS, JSON.stringify(body), headers);
  }

  invocation(id: string): Promise<Reply> {
    return this.send('GET', `/invocations/${id}`, QUICK_MS);
  }

  remove(id: string): Promise<Reply> {
    return this.send('DELETE', `/functions/${id}`, REMOVE_MS);
  }

  /** Of a change that waits for workers. */
  change(method: string, id: string, path: string, body: object): Promise<Reply> {
    return this.send(method, `/functions/${id}/${path}`, UPLOAD_MS, JSON.stringify(body));
  }

  show(id: string, path: string): Promise<Reply> {
    return this.send('GET', `/functions/${id}/${path}`, QUICK_MS);
  }

  code(id: string): Promise<Reply> {
    return this.send('GET', `/functions/${id}/code`, QUICK_MS);
  }

  detail(id: string): Promise<Reply> {
    return this.send('GET', `/functions/${id}`, QUICK_MS);
  }

  list(): Promise<Reply> {
    return this.send('GET', '/functions', QUICK_MS);
  }

  metrics(): Promise<Reply> {
    return this.send('GET', '/metrics', QUICK_MS);
  }

  /** How many calls the manager knows of: those that run, that wait, and that have ended since it was started. */
  async callsKnown(): Promise<number> {
    const reply = await this.metrics();
    if (reply.kind !== 'answer' || reply.status !== 200) throw new Error(`its metrics: ${shown(reply)}`);
    const counts = reply.body.toString('utf8').matchAll(/^faas_calls_(?:total|in_flight|waiting)\{.*\} (\d+)$/gm);
    return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
  }

  private async send(
    method: string,
    path: string,
    limitMs: number,
    body?: FormData | string,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Reply> {
    const { url, deaths } = this.manager;
    const isExcused = () => url === undefined || this.manager.deaths !== deaths || this.manager.url === undefined;
    if (url === undefined) return { kind: 'broken', reason: 'it does not run', excused: true };
    const signal = AbortSignal.timeout(limitMs);
    try {
      const response = await fetch(url + path, {
        method,
        signal,
        ...(typeof body === 'string' && { headers: { 'Content-Type': 'application/json', ...headers } }),
        ...(body !== undefined && { body }),
      });
      const content = Buffer.from(await response.arrayBuffer());
      return { kind: 'answer', status: response.status, code: problemCode(response, content), body: content };
    } catch (error) {
      if (signal.aborted) return { kind: 'hung', afterMs: limitMs };
      const { message, cause } = error as Error;
      // The end of the process may be noticed a moment after the end of its sockets.
      if (!isExcused()) await new Promise((resolve) => setTimeout(resolve, 50));
      return { kind: 'broken', reason: `${message}: ${String(cause)}`, excused: isExcused() };
    }
  }
}

export function shown(reply: Reply): string {
  switch (reply.kind) {
    case 'answer':
      return reply.status < 300 ? `${reply.status}` : `${reply.status} ${reply.body.toString('utf8').slice(0, 400)}`;
    case 'broken':
      return `connection broken${reply.excused ? '' : ' by a living manager'} (${reply.reason})`;
    case 'hung':
      return `nothing within ${reply.afterMs} ms`;
  }
}

export function rowsOf(reply: Reply): FunctionRow[] | undefined {
  return reply.kind === 'answer' && reply.status === 200
    ? (JSON.parse(reply.body.toString('utf8')) as FunctionRow[])
    : undefined;
}

function problemCode(response: Response, body: Buffer): string | undefined {
  if (response.headers.get('content-type')?.startsWith('application/problem+json') !== true) return undefined;
  return (JSON.parse(body.toString('utf8')) as { code?: string }).code;
}
