// The least a proxy in Node can do: a keep-alive pool, the body read whole, status and body passed back.
//   node proxy-process.mjs ORIGIN CONNECTIONS HEADERS [SOCKET]; says its port to its parent, and ends with it
import { createServer } from 'node:http';
import { Pool } from 'undici';

const [origin, connections, further, socketPath] = process.argv.slice(2);
const IDLE_MS = 60_000;
const pool = new Pool(origin, {
  connections: Number(connections),
  keepAliveTimeout: IDLE_MS,
  keepAliveMaxTimeout: IDLE_MS,
  ...(socketPath === undefined ? {} : { connect: { socketPath } }),
});
const headers = ['content-type', 'application/json', ...JSON.parse(further)];

const server = createServer({ keepAliveTimeout: IDLE_MS, noDelay: true }, (request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => pass(Buffer.concat(chunks), response));
});
server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
process.on('disconnect', () => process.exit());

/** By undici's leanest call, so that the reference is as fast as it can be. */
function pass(body, response) {
  const chunks = [];
  let status = 0;
  pool.dispatch(
    { method: 'POST', path: '/', headers, body },
    {
      onRequestStart() {},
      onResponseStart(_, code) {
        status = code;
      },
      onResponseData(_, chunk) {
        chunks.push(chunk);
      },
      onResponseEnd() {
        const answer = Buffer.concat(chunks);
        response.writeHead(status, ['Content-Type', 'application/json', 'Content-Length', String(answer.length)]);
        response.end(answer);
      },
      onResponseError(_, error) {
        if (response.headersSent) response.destroy();
        else response.writeHead(502).end(error.message);
      },
    },
  );
}
