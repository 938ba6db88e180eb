import { docker, PLAIN_IMAGE } from './docker-tests.js';

/** Answers every call, and counts them, whoever it is meant for. */
const SERVER = `
import http.server, json
calls = []
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"status": "ok", "calls": len(calls)})
    def do_POST(self):
        calls.append(self.rfile.read(int(self.headers.get("content-length") or 0)))
        self.answer({"result": "impostor"})
    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
`;

/** A container like another function's on a plain image, which is given an address that was a worker's. */
export class Impostor {
  private address = '';

  private constructor(private readonly id: string) {}

  /** Started beforehand, elsewhere, so that it answers from the moment it has the address. */
  static async start(): Promise<Impostor> {
    const container = await docker.createContainer({ Image: PLAIN_IMAGE, Entrypoint: ['python3', '-c', SERVER] });
    await container.start();
    return new Impostor(container.id);
  }

  /** Takes the lowest free address, as the engine gives them, and answers it. */
  async move(network: string): Promise<string> {
    await docker.getNetwork(network).connect({ Container: this.id });
    const { NetworkSettings } = await docker.getContainer(this.id).inspect();
    this.address = NetworkSettings.Networks[network]?.IPAddress ?? '';
    return this.address;
  }

  async calls(): Promise<number> {
    const response = await fetch(`http://${this.address}:8000/`, { signal: AbortSignal.timeout(5_000) });
    return ((await response.json()) as { calls: number }).calls;
  }

  async remove(): Promise<void> {
    await docker.getContainer(this.id).remove({ force: true, v: true });
  }
}

/** The address of a container on its only network. */
export async function addressOn(id: string, network: string): Promise<string> {
  const { NetworkSettings } = await docker.getContainer(id).inspect();
  return NetworkSettings.Networks[network]?.IPAddress ?? '';
}
