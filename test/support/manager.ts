import 'reflect-metadata';
import { loadConfig } from '#libs/config/load-config.js';
import { createLogger } from '#libs/observability/logger.js';
import { newestLines } from '#libs/orchestrator/function-log.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { Manager } from '../../apps/manager/src/manager.js';
import { createClient } from '../client/client/index.js';
import type { FunctionDto, UploadDto } from '../client/index.js';
import { type Answer, send, type Sent } from './http.js';

export type Env = Readonly<Record<string, string>>;
export type Client = ReturnType<typeof createClient>;

const LOG_MS = 30_000;
/** Lines that tell why an upload has failed. */
const LOGGED = 60;

const lines: string[] = [];

/** A manager of this process with all that tests ask of it. */
export class TestManager {
  readonly url: string;
  /** The generated client. */
  readonly client: Client;
  private readonly key: string | undefined;
  private stopped: Promise<void> | undefined;

  private constructor(
    private readonly manager: Manager,
    env: Env,
  ) {
    this.url = `http://127.0.0.1:${manager.port}`;
    this.key = env['API_KEYS']?.split(',')[0]?.split(':').at(-1);
    this.client = createClient({ baseUrl: this.url, ...(this.key === undefined ? {} : { auth: this.key }) });
  }

  static async start(env: Env): Promise<TestManager> {
    const config = loadConfig({ LISTEN_ADDR: ':0', ...env });
    // The program's own logger with what it leaves out, but written to where tests can read it.
    const logger = createLogger(config.log, null, { write: log });
    return new TestManager(await Manager.start(config, logger), env);
  }

  get port(): number {
    return Number(new URL(this.url).port);
  }

  /** All that was logged. Managers of one process share a log: nestjs-pino keeps the first logger it is given. */
  get log(): string {
    return lines.join('');
  }

  send(path: string, sent?: Sent): Promise<Answer> {
    return send(`${this.url}${path}`, sent);
  }

  /** Uploads a function that must become ready. */
  async add(
    code: string | Uint8Array<ArrayBuffer>,
    {
      name = 'handle',
      timeoutMs,
      ...fields
    }: Partial<Omit<UploadDto, 'python_file' | 'requirements_file' | 'function_name' | 'name'>> & {
      name?: string;
      timeoutMs?: number;
    } = {},
  ): Promise<FunctionDto> {
    const timeout = timeoutMs === undefined ? {} : { timeout_ms: timeoutMs };
    const body = new FormData();
    body.set('python_file', new Blob([code]));
    for (const [field, value] of Object.entries({ function_name: name, ...timeout, ...fields })) {
      if (value !== undefined) body.set(field, String(value));
    }
    const headers = this.key === undefined ? {} : { 'X-Api-Key': this.key };
    const answer = await fetch(`${this.url}/functions`, { method: 'POST', headers, body });
    if (answer.status !== 201) {
      throw new Error(`The upload failed: ${await answer.text()}\nLogged:\n${lines.slice(-LOGGED).join('')}`);
    }
    return (await answer.json()) as FunctionDto;
  }

  call(id: string, payload = '', sent: Sent = {}): Promise<Answer> {
    return this.send(`/functions/${id}/execute`, { method: 'POST', body: JSON.stringify({ payload }), ...sent });
  }

  /** The newest lines that the function's replicas have written. */
  async logOf(id: string): Promise<string[]> {
    const signal = AbortSignal.timeout(LOG_MS);
    const logs = await this.manager['app'].get(Orchestrator).logs(id, signal);
    const lines = await Array.fromAsync(newestLines(logs, { tail: 200, signal }));
    return lines.map(({ text }) => text);
  }

  remove(id: string): Promise<Answer> {
    return this.send(`/functions/${id}`, { method: 'DELETE' });
  }

  /** As SIGTERM does; once, however often it is asked for. */
  stop(): Promise<void> {
    return (this.stopped ??= this.manager.stop());
  }
}

function log(line: string): void {
  lines.push(line);
  if (process.env['LOG_LEVEL'] !== undefined) process.stderr.write(line);
}
