import { request } from 'node:http';
import pg from 'pg';
import { tokenHeader, WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import type { Endpoint, EndpointAddress } from '#libs/orchestrator/workload.js';

const ANSWER_MS = 10_000;

export interface Reply {
  readonly status: number;
  readonly text: string;
  readonly ms: number;
}

interface Knock {
  readonly method?: string;
  readonly path?: string;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What a neighbour sends to a worker that it has found, past every manager. */
export function knock(
  address: EndpointAddress,
  { method = 'POST', path = '/', body = '{"payload": "x"}', headers = {} }: Knock = {},
): Promise<Reply> {
  const target = address.kind === 'tcp' ? { host: address.host, port: address.port } : { socketPath: address.path };
  const began = performance.now();
  return new Promise((resolve, reject) => {
    const outgoing = request({ ...target, method, path, headers, agent: false, timeout: ANSWER_MS }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        resolve({ status: response.statusCode ?? 0, text, ms: performance.now() - began });
      });
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error('It did not answer.')));
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

/** An installation's database, read as whoever has broken into it could not do better. */
export class Doors {
  private constructor(
    private readonly client: pg.Client,
    readonly tokens: WorkerTokens,
  ) {}

  static async of(databaseUrl: string): Promise<Doors> {
    const client = new pg.Client({ connectionString: databaseUrl });
    await client.connect();
    const { rows } = await client.query<{ key: Buffer }>('SELECT key FROM worker_key');
    return new Doors(client, new WorkerTokens(rows[0]!.key));
  }

  async endpoint(functionId: string): Promise<Endpoint> {
    const { rows } = await this.client.query<{ endpoints: Endpoint[] }>(
      'SELECT endpoints FROM functions WHERE id = $1',
      [functionId],
    );
    return rows[0]!.endpoints[0]!;
  }

  token({ credential }: Endpoint): string {
    return this.tokens.tokenFor(credential)!;
  }

  /** As a manager knocks. */
  headers(endpoint: Endpoint): Record<string, string> {
    return tokenHeader(this.token(endpoint));
  }

  async forgetCredential(functionId: string): Promise<void> {
    await this.client.query(`UPDATE functions SET endpoints = endpoints #- '{0,credential}' WHERE id = $1`, [
      functionId,
    ]);
  }

  close(): Promise<void> {
    return this.client.end();
  }
}
