import { ProblemLog } from '#libs/errors/problem-log.js';
import { requestIdOf } from '#libs/errors/request-id.js';
import { type DynamicModule, Module } from '@nestjs/common';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { LoggerModule } from 'nestjs-pino';
import type { Logger } from 'pino';
import { addressOf, clientOf } from './client-address.js';
import { LogRateLimit } from './log-rate-limit.js';
import { escapeControls } from './escape-controls.js';

/** The root logger, for what is constructed outside Nest's own loggers. */
export const LOGGER = Symbol('Logger');

/** A URL may be as long as all headers together. */
const LONGEST_PATH = 256;
/** Lines a minute about requests of clients that need not show who they are, such as for documentation. */
const UNKNOWN = { perClient: 30, inAll: 300 };

/** Probes and scrapes would drown everything else. */
const QUIET = /^\/(?:livez|readyz|healthz|metrics)\/?(?:\?|$)/;

@Module({})
export class LoggingModule {
  static forRoot(logger: Logger): DynamicModule {
    const lines = new LogRateLimit(UNKNOWN, (leftOut) => logger.info(leftOut, 'lines of requests left out'));
    return {
      module: LoggingModule,
      global: true,
      imports: [
        LoggerModule.forRoot({
          pinoHttp: {
            logger,
            genReqId: requestIdOf,
            autoLogging: { ignore: (request) => QUIET.test(request.url ?? '') },
            quietReqLogger: true,
            customAttributeKeys: { reqId: 'requestId' },
            serializers: {
              req: ({ method, url }: { method: string; url: string }) => ({ method, path: pathOf(url) }),
              res: (response: { statusCode: number }) => ({ status: response.statusCode }),
            },
            customLogLevel: (request, response) => levelOf(request, response, lines),
            // The problem filter has already logged why.
            customErrorObject: (_request, _response, _error, fields: object) => ({ ...fields, err: undefined }),
          },
        }),
      ],
      providers: [
        { provide: LOGGER, useValue: logger },
        { provide: ProblemLog, useFactory: () => new ProblemLog(logger) },
      ],
      exports: [LOGGER, ProblemLog],
    };
  }
}

/** Without the query, which may hold what is secret. */
function pathOf(url: string): string {
  return escapeControls(url.split(/[?#]/, 1)[0] as string, LONGEST_PATH);
}

const NOTED = new WeakSet<IncomingMessage>();
const KNOWN = new WeakSet<IncomingMessage>();

/** Tells that a request needs no line of its own, because another says what became of it. */
export function noteElsewhere(request: IncomingMessage): void {
  NOTED.add(request);
}

/** Tells that a request is of a client that may ask: every one of its requests has its line. */
export function noteKnown(request: IncomingMessage): void {
  KNOWN.add(request);
}

function levelOf(request: IncomingMessage, response: ServerResponse, lines: LogRateLimit): 'info' | 'warn' | 'silent' {
  if (NOTED.has(request)) return 'silent';
  if (!KNOWN.has(request) && !lines.admits(clientOf(addressOf(request)))) return 'silent';
  return response.statusCode >= 500 ? 'warn' : 'info';
}
