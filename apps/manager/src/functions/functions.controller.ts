import { ApiProblems } from '#libs/errors/api-problems.js';
import {
  Controller,
  Delete,
  Get,
  Header,
  HttpCode,
  Param,
  Post,
  Query,
  Req,
  Res,
  StreamableFile,
} from '@nestjs/common';
import {
  ApiAcceptedResponse,
  ApiBody,
  ApiConsumes,
  ApiCreatedResponse,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiProduces,
  ApiTags,
} from '@nestjs/swagger';
import { isUtf8 } from 'node:buffer';
import type { Request, Response } from 'express';
import { Audit } from '../auth/audit.js';
import { Needs } from '../auth/auth.guard.js';
import { QueryParameter } from '../http/query.js';
import { FUNCTION_ID, FunctionDetailDto, FunctionDto } from './dto/function.dto.js';
import { UploadDto } from './dto/upload.dto.js';
import { FunctionsService } from './functions.service.js';
import { MOST_PER_PAGE, pageOf } from './page.js';

@ApiTags('functions')
@Needs('deploy')
@Controller('functions')
export class FunctionsController {
  constructor(
    private readonly functions: FunctionsService,
    private readonly audit: Audit,
  ) {}

  @Post()
  @ApiOperation({
    operationId: 'addFunction',
    summary: 'Upload a Python file as a function',
    description: 'Answers once the handler has passed a readiness probe. An upload that fails leaves nothing behind.',
  })
  @ApiConsumes('multipart/form-data')
  @ApiBody({ type: UploadDto })
  @ApiCreatedResponse({
    type: FunctionDto,
    description: 'The function, which answers calls.',
    headers: {
      Location: { description: "The function's path.", schema: { type: 'string', format: 'uri-reference' } },
    },
  })
  @ApiProblems(
    'invalid_upload',
    'function_removed',
    'upload_too_large',
    'unsupported_encoding',
    'handler_not_loadable',
    'manager_overloaded',
    'function_not_ready',
    'orchestrator_unavailable',
  )
  async add(@Req() request: Request, @Res({ passthrough: true }) response: Response): Promise<FunctionDto> {
    const added = await this.audit.of('add', request, (name) => this.functions.add(request, name));
    response.location(`/functions/${added.id}`);
    return added;
  }

  @Get()
  @ApiOperation({
    operationId: 'listFunctions',
    summary: 'List all functions, the oldest first',
    description: 'All of them at once, or in pages: with a `limit`, the `Link` header leads to the next page.',
  })
  @QueryParameter({
    name: 'limit',
    required: false,
    description: 'At most so many of them; without it, all.',
    schema: { type: 'integer', minimum: 1, maximum: MOST_PER_PAGE },
  })
  @QueryParameter({
    name: 'after',
    required: false,
    description: 'Where the page begins: taken from the Link header of the page before.',
    schema: { type: 'string', pattern: '^[0-9]{1,18}$', maxLength: 18 },
  })
  @ApiOkResponse({
    type: [FunctionDto],
    description: 'The functions; an empty array where there are none.',
    headers: {
      Link: {
        description: 'With a limit, where more functions follow: the next page (RFC 8288).',
        schema: { type: 'string', example: '</functions?limit=100&after=100>; rel="next"' },
      },
    },
  })
  @ApiProblems('invalid_page')
  async list(
    @Query() query: Record<string, unknown>,
    @Res({ passthrough: true }) response: Response,
  ): Promise<FunctionDto[]> {
    const { functions, next } = await this.functions.list(pageOf(query));
    if (next !== undefined) response.setHeader('Link', next);
    return functions;
  }

  @Get(':id')
  @ApiOperation({
    operationId: 'getFunction',
    summary: 'One function, why it is in its state and since when',
    description: 'What the list tells of it, and conditions, the last error, replicas and the hash of its code.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiOkResponse({ type: FunctionDetailDto, description: 'The function.' })
  @ApiProblems('function_not_found', 'route_not_found')
  detail(@Param('id') id: string): Promise<FunctionDetailDto> {
    return this.functions.detail(id);
  }

  @Get(':id/code')
  @Header('X-Content-Type-Options', 'nosniff')
  @ApiOperation({
    operationId: 'getFunctionCode',
    summary: 'The uploaded file, byte for byte',
    description: 'Its charset is what its own coding line says, or UTF-8.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiProduces('text/x-python')
  @ApiOkResponse({
    description: 'The file.',
    content: {
      'text/x-python': { schema: { type: 'string' }, example: 'def handle(payload: str):\n    return payload\n' },
    },
  })
  @ApiProblems('function_not_found', 'route_not_found', 'manager_overloaded')
  async code(@Param('id') id: string, @Res({ passthrough: true }) response: Response): Promise<StreamableFile> {
    const code = await this.functions.code(id, response);
    return new StreamableFile(code, {
      type: isUtf8(code) ? 'text/x-python; charset=utf-8' : 'text/x-python',
      disposition: 'attachment; filename="handler.py"',
    });
  }

  @Delete(':id')
  @HttpCode(204)
  @ApiOperation({
    operationId: 'removeFunction',
    summary: 'Remove a function',
    description: 'Calls in flight may finish for up to ten seconds; new ones are refused at once.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiNoContentResponse({ description: 'Nothing of the function is left.' })
  @ApiAcceptedResponse({
    type: FunctionDto,
    description: 'Recorded; it finishes by itself once the engine can be reached.',
  })
  @ApiProblems('function_not_found', 'route_not_found')
  async remove(
    @Param('id') id: string,
    @Req() request: Request,
    @Res({ passthrough: true }) response: Response,
  ): Promise<FunctionDto | undefined> {
    const { finished, row } = await this.audit.of('remove', request, (name) => this.functions.remove(id, name));
    if (finished) return undefined;
    response.status(202);
    return FunctionDto.of(row);
  }
}
