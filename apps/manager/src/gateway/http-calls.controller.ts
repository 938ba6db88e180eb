import { ApiProblems } from '#libs/errors/api-problems.js';
import { applyDecorators, Controller, Delete, Get, Param, Patch, Post, Put } from '@nestjs/common';
import {
  ApiBody,
  ApiConsumes,
  ApiHeader,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiProduces,
  ApiTags,
} from '@nestjs/swagger';
import { Needs } from '../auth/auth.guard.js';
import { FUNCTION_ID } from '../functions/dto/function.dto.js';
import { FunctionNotFound } from '../functions/errors.js';
import { KEY_OF_KEPT, PREFER, TIMING_HEADERS } from './dto.js';

const BYTES = { type: 'string', format: 'binary' } as const;
const ANY = 'application/octet-stream';
/** Of no one type, so that nothing takes it for a value to send. */
const EXAMPLES = { json: { summary: 'JSON', value: '{"name": "Ada"}' } };
const BELOW = {
  name: 'path',
  description: 'What is below: any path, with slashes too.',
  schema: { type: 'string', example: 'orders/7' },
} as const;
const REVISION = {
  name: 'X-Faas-Revision',
  required: false,
  description: 'The revision that shall answer, which must be among those of the traffic.',
  schema: { type: 'integer', minimum: 1, maximum: 999_999_999 },
} as const;

const TEXT = `Method, path, query, headers and body are the handler's, as are status, headers and body of the answer: any bytes of any type, which are streamed both ways. Any other method, \`HEAD\` and \`OPTIONS\` too, is called as these are. A \`GET\` that asks for a WebSocket is answered with one by an application of ASGI. A function that is \`public\` asks for no key. With \`Prefer: respond-async\` the call is kept and runs later, and the answer is \`202\`, as that of \`POST /functions/{id}/invocations\`. Revisions are chosen by the headers \`X-Faas-Revision\`, \`X-Faas-Tag\` and \`X-Faas-Sticky\`, for the query is the handler's.`;

const METHODS = {
  get: { route: Get, verb: 'Get', hasBody: false },
  post: { route: Post, verb: 'Post to', hasBody: true },
  put: { route: Put, verb: 'Put to', hasBody: true },
  patch: { route: Patch, verb: 'Patch', hasBody: true },
  delete: { route: Delete, verb: 'Delete', hasBody: false },
} as const;

/** One method of one of the two paths. */
function Calls(method: keyof typeof METHODS, where: 'root' | 'below'): MethodDecorator {
  const { route, verb, hasBody } = METHODS[method];
  const isBelow = where === 'below';
  return applyDecorators(
    route(isBelow ? ':id/:path' : ':id'),
    ApiOperation({
      operationId: `${method}Function${isBelow ? 'Path' : 'Root'}`,
      summary: `${verb} ${isBelow ? 'a path of a function' : 'a function'}`,
      description: TEXT,
    }),
    ApiParam(FUNCTION_ID),
    ...(isBelow ? [ApiParam(BELOW)] : []),
    ApiHeader(REVISION),
    ApiHeader(PREFER),
    ApiHeader(KEY_OF_KEPT),
    ...(hasBody ? [ApiConsumes(ANY), ApiBody({ required: false, schema: BYTES, examples: EXAMPLES })] : []),
    ApiProduces(ANY),
    ApiOkResponse({
      description: "The handler's answer, of whatever status it says.",
      headers: TIMING_HEADERS,
      content: { [ANY]: { schema: BYTES, examples: EXAMPLES } },
    }),
    ApiProblems(
      'invalid_payload',
      'invalid_event',
      'invalid_invocation',
      'function_not_found',
      'function_not_runnable',
      'function_disabled',
      'revision_without_traffic',
      'idempotency_key_reused',
      'payload_too_large',
      'queue_full',
      'function_overloaded',
      'manager_overloaded',
      'handler_error',
      'handler_result_invalid',
      'http_unsupported',
      'websocket_unsupported',
      'handler_response_invalid',
      'worker_crashed',
      'function_not_ready',
      'orchestrator_unavailable',
      'handler_timeout',
    ),
  );
}

/** Documents HTTP calls, which are made ahead of the framework. What gets here has a form that no name has. */
@ApiTags('execution')
@Needs('invoke')
@Controller('f')
export class HttpCallsController {
  @Calls('get', 'root')
  getRoot(@Param('id') id: string): never {
    throw new FunctionNotFound(id);
  }

  @Calls('post', 'root')
  postRoot(@Param('id') id: string): never {
    throw new FunctionNotFound(id);
  }

  @Calls('put', 'root')
  putRoot(@Param('id') id: string): never {
    throw new FunctionNotFound(id);
  }

  @Calls('patch', 'root')
  patchRoot(@Param('id') id: string): never {
    throw new FunctionNotFound(id);
  }

  @Calls('delete', 'root')
  deleteRoot(@Param('id') id: string): never {
    throw new FunctionNotFound(id);
  }

  @Calls('get', 'below')
  getPath(@Param('id') id: string): never {
    throw new FunctionNotFound(id);
  }

  @Calls('post', 'below')
  postPath(@Param('id') id: string): never {
    throw new FunctionNotFound(id);
  }

  @Calls('put', 'below')
  putPath(@Param('id') id: string): never {
    throw new FunctionNotFound(id);
  }

  @Calls('patch', 'below')
  patchPath(@Param('id') id: string): never {
    throw new FunctionNotFound(id);
  }

  @Calls('delete', 'below')
  deletePath(@Param('id') id: string): never {
    throw new FunctionNotFound(id);
  }
}
