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
  ApiQuery,
  ApiTags,
} from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Audit } from '../auth/audit.js';
import { Needs } from '../auth/auth.guard.js';
import { FunctionDetailDto, FunctionDto } from './dto/function.dto.js';
import { UploadDto } from './dto/upload.dto.js';
import { FunctionsService } from './functions.service.js';
import { pageOf } from './page.js';

const NOT_FOUND = { status: 404, code: 'function_not_found', detail: 'Function "mfrggzdfmztwq2lk" does not exist.' };
const ID = { name: 'id', description: "The function's id.", example: 'mfrggzdfmztwq2lk' };

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
  @ApiCreatedResponse({ type: FunctionDto })
  @ApiProblems(
    {
      status: 400,
      code: 'invalid_upload',
      detail: 'function_name is missing: send the name of the function inside the file.',
      extras: { field: 'function_name' },
    },
    {
      status: 413,
      code: 'upload_too_large',
      detail: 'The uploaded file is larger than the limit of 10485760 bytes.',
      extras: { field: 'python_file', limit_bytes: 10485760 },
    },
    {
      status: 415,
      code: 'unsupported_encoding',
      detail: 'Content-Encoding gzip is not supported: send the body uncompressed.',
    },
    {
      status: 429,
      code: 'manager_overloaded',
      detail:
        'This manager holds as many requests as its memory allows (536870912 bytes). Try again, or add managers or raise MAX_HELD_BYTES.',
      extras: { limit_bytes: 536870912 },
    },
    {
      status: 422,
      code: 'handler_not_loadable',
      detail: "SyntaxError: '(' was never closed (line 3)",
      extras: {
        traceback: '  File "handler.py", line 3\n    print(\n         ^\nSyntaxError: \'(\' was never closed',
        line: 3,
      },
    },
    {
      status: 503,
      code: 'function_not_ready',
      detail: 'Function mfrggzdfmztwq2lk did not become ready: not within 60000 ms.',
    },
    {
      status: 503,
      code: 'orchestrator_unavailable',
      detail: "The docker engine can't be reached: connect ENOENT /var/run/docker.sock",
    },
  )
  add(@Req() request: Request): Promise<FunctionDto> {
    return this.audit.of('add', request, (name) => this.functions.add(request, name));
  }

  @Get()
  @ApiOperation({ operationId: 'listFunctions', summary: 'List all functions, the oldest first' })
  @ApiQuery({
    name: 'limit',
    required: false,
    description: 'At most so many of them; without it, all.',
    schema: { type: 'integer', minimum: 1, maximum: 1000, example: 100 },
  })
  @ApiQuery({
    name: 'after',
    required: false,
    description: 'Where the page begins: taken from the Link header of the page before.',
    schema: { type: 'string', pattern: '^[0-9]{1,18}$', example: '100' },
  })
  @ApiOkResponse({
    type: [FunctionDto],
    headers: {
      Link: {
        description: 'With a limit, where more functions follow: the next page (RFC 8288).',
        schema: { type: 'string', example: '</functions?limit=100&after=100>; rel="next"' },
      },
    },
  })
  @ApiProblems({
    status: 400,
    code: 'invalid_page',
    detail: 'limit must be a whole number from 1 to 1000.',
    extras: { parameter: 'limit' },
  })
  async list(
    @Query() query: Record<string, unknown>,
    @Res({ passthrough: true }) response: Response,
  ): Promise<FunctionDto[]> {
    const { functions, next } = await this.functions.list(pageOf(query));
    if (next !== undefined) response.setHeader('Link', next);
    return functions;
  }

  @Get(':id')
  @ApiOperation({ operationId: 'getFunction', summary: 'One function, why it is in its state and since when' })
  @ApiParam(ID)
  @ApiOkResponse({ type: FunctionDetailDto })
  @ApiProblems(NOT_FOUND)
  detail(@Param('id') id: string): Promise<FunctionDetailDto> {
    return this.functions.detail(id);
  }

  @Get(':id/code')
  @Header('Content-Type', 'text/x-python; charset=utf-8')
  @Header('X-Content-Type-Options', 'nosniff')
  @ApiOperation({ operationId: 'getFunctionCode', summary: 'The uploaded file, byte for byte' })
  @ApiParam(ID)
  @ApiProduces('text/x-python')
  @ApiOkResponse({
    content: {
      'text/x-python': { schema: { type: 'string' }, example: 'def handle(payload: str):\n    return payload\n' },
    },
  })
  @ApiProblems(NOT_FOUND, {
    status: 429,
    code: 'manager_overloaded',
    detail:
      'This manager holds as many requests as its memory allows (536870912 bytes). Try again, or add managers or raise MAX_HELD_BYTES.',
    extras: { limit_bytes: 536870912 },
  })
  async code(@Param('id') id: string, @Res({ passthrough: true }) response: Response): Promise<StreamableFile> {
    return new StreamableFile(await this.functions.code(id, response), {
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
  @ApiParam(ID)
  @ApiNoContentResponse({ description: 'Nothing of the function is left.' })
  @ApiAcceptedResponse({
    type: FunctionDto,
    description: 'Recorded; it finishes by itself once the engine can be reached.',
  })
  @ApiProblems(NOT_FOUND)
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
