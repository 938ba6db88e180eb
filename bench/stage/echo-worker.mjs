// Answers as a worker does whose handler returns what it gets: one server for the calls of all functions.
import { createServer } from 'node:http';

const PAYLOAD = '{"payload":';
const RESULT = '{"result":';

const server = createServer((request, response) => {
  let body = '';
  request.setEncoding('utf8');
  request.on('data', (chunk) => (body += chunk));
  request.on('end', () => {
    const answer = body.startsWith(PAYLOAD) ? RESULT + body.slice(PAYLOAD.length) : '{"detail":"no payload"}';
    response.writeHead(answer.startsWith(RESULT) ? 200 : 422, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(answer),
      'x-faas-runner': '1',
    });
    response.end(answer);
  });
});
// Longer than managers keep an idle socket.
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
process.on('disconnect', () => process.exit());
