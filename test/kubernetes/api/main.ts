// A process of its own, for suites whose managers come and go:  node test/kubernetes/api/run.mjs '{"namespace":"x"}'
// Its first line of output is JSON with all that the other side needs. It ends with SIGTERM, or when its input closes.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ApiOptions } from './options.js';
import { start } from './start.js';

const started = start(JSON.parse(process.argv[2] ?? '{}') as ApiOptions);

let stopping: Promise<void> | undefined;
function stop(): void {
  stopping ??= started.then((running) => running.stop()).then(() => process.exit(0));
}
process.on('SIGTERM', stop).on('SIGINT', stop);
process.stdin.on('end', stop).on('error', stop).resume();

const api = await started;

const control = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const name = (request.url ?? '').slice(1) as keyof typeof api.controls;
    const call = api.controls[name] as (...args: unknown[]) => Promise<unknown>;
    const given = JSON.parse(Buffer.concat(chunks).toString()) as unknown[];
    call(...given).then(
      (result) => response.end(JSON.stringify({ result })),
      (error: unknown) => response.writeHead(500).end(JSON.stringify({ error: String(error) })),
    );
  });
});
await new Promise<void>((resolve) => control.listen(0, '127.0.0.1', resolve));

const controlUrl = `http://127.0.0.1:${(control.address() as AddressInfo).port}`;
const kubeconfigs = { admin: api.kubeconfig('admin'), manager: api.kubeconfig('manager') };
process.stdout.write(`${JSON.stringify({ url: api.url, namespace: api.namespace, controlUrl, kubeconfigs })}\n`);
