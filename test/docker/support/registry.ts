import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Readable } from 'node:stream';
import { extract } from 'tar-stream';
import { docker } from './docker-tests.js';

const MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
const CONFIG = 'application/vnd.docker.container.image.v1+json';
const LAYER = 'application/vnd.docker.image.rootfs.diff.tar';

interface Blob {
  readonly digest: string;
  readonly bytes: Buffer;
}

/**
 * An image registry (the pulling half of the distribution protocol, version 2) on loopback that offers one image of the
 * local engine to whoever knows the password. https://distribution.github.io/distribution/spec/api/
 */
export class Registry {
  /** What was asked for, in order, with the status that was answered. */
  readonly requests: string[] = [];
  private readonly blobs = new Map<string, Buffer>();

  private constructor(
    private readonly server: Server,
    private readonly repository: string,
    private readonly login: { readonly username: string; readonly password: string },
    private readonly manifest: Buffer,
    blobs: readonly Blob[],
  ) {
    for (const { digest, bytes } of blobs) this.blobs.set(digest, bytes);
    server.on('request', (request, response) => this.answer(request, response));
  }

  static async serving(
    image: string,
    repository: string,
    login: { username: string; password: string },
  ): Promise<Registry> {
    const files = await filesOf((await docker.getImage(image).get()) as Readable);
    const fileAt = (path: string): Buffer => {
      const found = files.get(path);
      if (found === undefined) throw new Error(`${path} is not in the saved image.`);
      return found;
    };
    const [saved] = JSON.parse(fileAt('manifest.json').toString()) as { Config: string; Layers: string[] }[];
    if (saved === undefined) throw new Error(`${image} could not be saved.`);
    const config = blob(fileAt(saved.Config));
    const layers = saved.Layers.map((path) => blob(fileAt(path)));
    const manifest = {
      schemaVersion: 2,
      mediaType: MANIFEST,
      config: described(config, CONFIG),
      layers: layers.map((layer) => described(layer, LAYER)),
    };
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new Registry(server, repository, login, Buffer.from(JSON.stringify(manifest)), [config, ...layers]);
  }

  get host(): string {
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const { status, type, bytes } = this.found(request);
    this.requests.push(`${status} ${request.url}`);
    response.writeHead(status, {
      'Docker-Distribution-Api-Version': 'registry/2.0',
      ...(status === 401 && { 'WWW-Authenticate': 'Basic realm="registry"' }),
      'Content-Type': type,
      'Content-Length': bytes.length,
      ...(status === 200 && { 'Docker-Content-Digest': digestOf(bytes) }),
    });
    response.end(request.method === 'HEAD' ? undefined : bytes);
  }

  private found({ url = '', headers }: IncomingMessage): { status: number; type: string; bytes: Buffer } {
    if (!this.knows(headers.authorization ?? '')) return refusal(401, 'UNAUTHORIZED');
    if (url === '/v2/') return { status: 200, type: 'application/json', bytes: Buffer.from('{}') };
    const [, kind, name = ''] = new RegExp(`^/v2/${this.repository}/(manifests|blobs)/(.+)$`).exec(url) ?? [];
    if (kind === 'manifests') return { status: 200, type: MANIFEST, bytes: this.manifest };
    const bytes = kind === 'blobs' ? this.blobs.get(name) : undefined;
    if (bytes === undefined) return refusal(404, 'NAME_UNKNOWN');
    return { status: 200, type: 'application/octet-stream', bytes };
  }

  private knows(authorization: string): boolean {
    const { username, password } = this.login;
    const wanted = Buffer.from(`Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`);
    const given = Buffer.from(authorization);
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  }
}

function refusal(status: number, code: string) {
  const bytes = Buffer.from(JSON.stringify({ errors: [{ code, message: code.toLowerCase() }] }));
  return { status, type: 'application/json', bytes };
}

function blob(bytes: Buffer): Blob {
  return { digest: digestOf(bytes), bytes };
}

function described({ digest, bytes }: Blob, mediaType: string) {
  return { mediaType, size: bytes.length, digest };
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

async function filesOf(archive: Readable): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  const entries = archive.pipe(extract());
  for await (const entry of entries) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry) chunks.push(chunk as Buffer);
    files.set(entry.header.name, Buffer.concat(chunks));
  }
  return files;
}
