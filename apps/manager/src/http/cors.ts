import { requestIdOf } from '#libs/errors/request-id.js';
import cors from 'cors';
import type { RequestListener } from 'node:http';

const PREFLIGHT_SECONDS = 600;
/** What pages may read beside what browsers let them read anyway. */
const EXPOSED = [
  'Allow',
  'ETag',
  'Link',
  'Location',
  'Retry-After',
  'Server-Timing',
  'X-Cold-Start',
  'X-Faas-Revision',
  'X-Request-Id',
];

/** Lets pages of these origins call and read answers (CORS). Keys are still asked for where there are any. */
export function allowOrigins(origins: readonly string[], listener: RequestListener): RequestListener {
  if (origins.length === 0) return listener;
  const answer = cors({
    origin: [...origins],
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
    exposedHeaders: EXPOSED,
    maxAge: PREFLIGHT_SECONDS,
  });
  return (request, response) => {
    if (request.method === 'OPTIONS' && request.headers['access-control-request-method'] === undefined) {
      listener(request, response);
      return;
    }
    response.setHeader('X-Request-Id', requestIdOf(request));
    answer(request, response, () => listener(request, response));
  };
}
