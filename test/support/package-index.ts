import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Wheel } from './wheels.js';

/** How it answers. `lies`: by other hashes than its files have. `silent`: never. */
export type Mood = 'sound' | 'lies' | 'silent' | 'failing' | 'closed';

/** A wheel, or what is given out as something else. */
type Distribution = Pick<Wheel, 'file' | 'project' | 'bytes' | 'sha256'>;

/** A package index of this process (PEP 503), which counts and misbehaves on demand. */
export class PackageIndex {
  mood: Mood = 'sound';
  /** Paths that were asked for. */
  readonly asked: string[] = [];
  /** Of the last request. */
  authorization: string | undefined;
  private readonly wheels: Distribution[] = [];
  private readonly waiting = new Set<() => void>();
  private held = false;

  private constructor(private readonly server: Server) {}

  static async open(host = '127.0.0.1'): Promise<PackageIndex> {
    const server = createServer((request, response) => {
      const path = request.url ?? '';
      index.asked.push(path);
      index.authorization = request.headers.authorization;
      if (index.mood === 'silent') return;
      void index.whenLetGo(path).then(() => {
        const { status, type, body } = index.answer(path);
        response.writeHead(status, { 'Content-Type': type }).end(body);
      });
    });
    const index = new PackageIndex(server);
    server.listen(0, host);
    await once(server, 'listening');
    return index;
  }

  get url(): string {
    const { address, port } = this.server.address() as AddressInfo;
    return `http://${address}:${port}/simple`;
  }

  add(...wheels: readonly Distribution[]): void {
    this.wheels.push(...wheels);
  }

  /** Files aren't sent until they are let go. */
  hold(): void {
    this.held = true;
  }

  letGo(): void {
    this.held = false;
    for (const resolve of this.waiting) resolve();
    this.waiting.clear();
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }

  private async whenLetGo(path: string): Promise<void> {
    if (this.held && path.startsWith('/files/')) await new Promise<void>((resolve) => this.waiting.add(resolve));
  }

  private answer(path: string): { status: number; type: string; body: string | Buffer } {
    if (this.mood === 'closed') return { status: 401, type: 'text/plain', body: 'who are you?' };
    if (this.mood === 'failing') return { status: 500, type: 'text/plain', body: 'out of order' };
    const file = this.wheels.find((one) => path === `/files/${one.file}`);
    if (file !== undefined) return { status: 200, type: 'application/octet-stream', body: file.bytes };
    const project = /^\/simple\/([a-z0-9-]+)\/$/.exec(path)?.[1];
    const found = this.wheels.filter((one) => one.project === project);
    if (found.length === 0) return { status: 404, type: 'text/plain', body: 'unknown' };
    const links = found.map((one) => {
      const digest = this.mood === 'lies' ? '0'.repeat(64) : one.sha256;
      return `<a href="/files/${one.file}#sha256=${digest}">${one.file}</a>`;
    });
    return { status: 200, type: 'text/html', body: `<!DOCTYPE html><html><body>${links.join('\n')}</body></html>` };
  }
}
