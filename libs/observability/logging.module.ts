import { requestIdOf } from '#libs/errors/request-id.js';
import { type DynamicModule, Module } from '@nestjs/common';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { LoggerModule } from 'nestjs-pino';
import type { Logger } from 'pino';

/** The root logger, for what is constructed outside Nest's own loggers. */
export const LOGGER = Symbol('Logger');

/** Probes and scrapes would drown everything else. */
const QUIET = /^\/(livez|readyz|healthz|metrics)\b/;

@Module({})
export class LoggingModule {
  static forRoot(logger: Logger): DynamicModule {
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
              req: (request: { method: string; url: string }) => ({ method: request.method, url: request.url }),
              res: (response: { statusCode: number }) => ({ status: response.statusCode }),
            },
            customLogLevel: levelOf,
            // The problem filter has already logged why.
            customErrorObject: (_request, _response, _error, fields: object) => ({ ...fields, err: undefined }),
          },
        }),
      ],
      providers: [{ provide: LOGGER, useValue: logger }],
      exports: [LOGGER],
    };
  }
}

function levelOf(_request: IncomingMessage, response: ServerResponse): 'info' | 'warn' {
  return response.statusCode >= 500 ? 'warn' : 'info';
}
