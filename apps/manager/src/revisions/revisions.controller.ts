import { ApiProblems } from '#libs/errors/api-problems.js';
import { Controller, Delete, Get, Header, HttpCode, Param, Post, Req, Res, StreamableFile } from '@nestjs/common';
import {
  ApiBody,
  ApiCreatedResponse,
  ApiExtraModels,
  ApiHeader,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  type ApiParamOptions,
  ApiProduces,
  ApiTags,
  getSchemaPath,
} from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Audit, keyOf } from '../auth/audit.js';
import { Needs } from '../auth/auth.guard.js';
import { FUNCTION_ID } from '../functions/dto/function.dto.js';
import { JsonRevisionUploadDto, RevisionUploadDto } from '../functions/dto/upload.dto.js';
import { CODE_ANSWER, ETAG, IF_MATCH } from '../functions/functions.controller.js';
import { FunctionsService } from '../functions/functions.service.js';
import { tagVersion, versionsOf } from '../http/entity-tag.js';
import { RevisionDto, RollbackDto } from './dto.js';
import { readRollback } from './rollback.js';
import { RevisionsService } from './revisions.service.js';

const NUMBER: ApiParamOptions = {
  name: 'number',
  description: "The revision's number.",
  schema: { type: 'integer', minimum: 1, example: 2 },
};

/** Why a revision may not take over. */
const NOT_TAKEN_OVER = [
  'function_not_found',
  'route_not_found',
  'revision_not_found',
  'revision_superseded',
  'function_removed',
  'version_outdated',
  'unsupported_encoding',
  'handler_not_loadable',
  'manager_overloaded',
  'function_not_ready',
  'orchestrator_unavailable',
] as const;
/** Why there may be no packages for it. */
const NOT_INSTALLED = ['requirements_not_installable', 'requirements_unsupported', 'build_unavailable'] as const;
const LOCK_EXAMPLE =
  'idna==3.11 \\\n    --hash=sha256:5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9\n';

/** As an upload, each part of it optional. */
const UPLOAD = {
  required: true,
  content: {
    'multipart/form-data': { schema: { $ref: getSchemaPath(RevisionUploadDto) } },
    'application/json': {
      schema: { $ref: getSchemaPath(JsonRevisionUploadDto) },
      example: { code: 'def handle(payload: str):\n    return payload.upper()\n', message: 'Shouts' },
    },
  },
};

@ApiTags('revisions')
@Needs('deploy')
@Controller('functions/:id')
export class RevisionsController {
  constructor(
    private readonly revisions: RevisionsService,
    private readonly functions: FunctionsService,
    private readonly audit: Audit,
  ) {}

  @Post('revisions')
  @ApiOperation({
    operationId: 'addRevision',
    summary: 'Update a function',
    description:
      'Answers once the revision has taken all calls over. What is left out is as in the one that had them. One that fails changes nothing: the former one serves on.',
    requestBody: UPLOAD,
  })
  @ApiParam(FUNCTION_ID)
  @ApiExtraModels(RevisionUploadDto, JsonRevisionUploadDto)
  @ApiHeader(IF_MATCH)
  @ApiCreatedResponse({
    type: RevisionDto,
    description: 'The revision, which has the calls.',
    headers: {
      Location: { description: "The revision's path.", schema: { type: 'string', format: 'uri-reference' } },
      ...ETAG,
    },
  })
  @ApiProblems('invalid_upload', 'upload_too_large', 'secret_unreadable', ...NOT_TAKEN_OVER, ...NOT_INSTALLED)
  async add(
    @Param('id') id: string,
    @Req() request: Request,
    @Res({ passthrough: true }) response: Response,
  ): Promise<RevisionDto> {
    const added = await this.audit.of('add revision', request, (named) =>
      this.revisions.add(id, request, keyOf(request), { versions: versionsOf(request), named }),
    );
    response.location(`/functions/${added.row.id}/revisions/${added.revision.number}`);
    tagVersion(request, response, added.row.version);
    return RevisionDto.of(added);
  }

  @Get('revisions')
  @ApiOperation({
    operationId: 'listRevisions',
    summary: 'The revisions of a function, the newest first',
    description: 'Those in use, and the newest of the others.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiOkResponse({ type: [RevisionDto], description: 'The revisions.' })
  @ApiProblems('function_not_found', 'route_not_found')
  async list(@Param('id') id: string): Promise<RevisionDto[]> {
    return (await this.revisions.list(id)).map((one) => RevisionDto.of(one));
  }

  @Get('revisions/:number')
  @ApiOperation({
    operationId: 'getRevision',
    summary: 'One revision',
    description: 'With the settings that it names, and why it could not serve where it has failed.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiParam(NUMBER)
  @ApiOkResponse({ type: RevisionDto, description: 'The revision.' })
  @ApiProblems('function_not_found', 'revision_not_found', 'route_not_found')
  async get(@Param('id') id: string, @Param('number') number: string): Promise<RevisionDto> {
    return RevisionDto.of(await this.revisions.find(id, number));
  }

  @Get('revisions/:number/code')
  @Header('X-Content-Type-Options', 'nosniff')
  @ApiOperation({
    operationId: 'getRevisionCode',
    summary: "A revision's file, byte for byte",
    description: 'Its charset is what its own coding line says, or UTF-8.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiParam(NUMBER)
  @ApiProduces('text/x-python')
  @ApiOkResponse(CODE_ANSWER)
  @ApiProblems('function_not_found', 'revision_not_found', 'route_not_found', 'manager_overloaded')
  async code(
    @Param('id') id: string,
    @Param('number') number: string,
    @Res({ passthrough: true }) response: Response,
  ): Promise<StreamableFile> {
    const { row, revision } = await this.revisions.find(id, number);
    return this.functions.code(row, revision.number, response);
  }

  @Get('revisions/:number/lock')
  @Header('Content-Type', 'text/plain; charset=utf-8')
  @Header('X-Content-Type-Options', 'nosniff')
  @ApiOperation({
    operationId: 'getRevisionLock',
    summary: "The lock of a revision's packages",
    description:
      'Each package with its version and hashes, as a requirements file; empty where it has none. Sent as the requirements of another revision it leads to the same layer.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiParam(NUMBER)
  @ApiProduces('text/plain')
  @ApiOkResponse({
    description: 'The lock.',
    content: { 'text/plain': { schema: { type: 'string' }, example: LOCK_EXAMPLE } },
  })
  @ApiProblems('function_not_found', 'revision_not_found', 'route_not_found')
  lock(@Param('id') id: string, @Param('number') number: string): Promise<string> {
    return this.revisions.lock(id, number);
  }

  @Delete('revisions/:number')
  @HttpCode(204)
  @ApiOperation({
    operationId: 'removeRevision',
    summary: 'Remove a revision that has no calls',
    description: 'The one that has the calls, and one that is about to take them over, stay.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiParam(NUMBER)
  @ApiNoContentResponse({ description: 'It is gone.' })
  @ApiProblems('function_not_found', 'revision_not_found', 'route_not_found', 'revision_in_use', 'function_not_ready')
  remove(@Param('id') id: string, @Param('number') number: string, @Req() request: Request): Promise<void> {
    return this.audit.of('remove revision', request, (named) => this.revisions.remove(id, number, named));
  }

  @Post('rollback')
  @HttpCode(200)
  @ApiOperation({
    operationId: 'rollBack',
    summary: 'Go back to a former revision',
    description: 'Answers once it has taken all calls over again. One that fails changes nothing.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiHeader(IF_MATCH)
  // Swagger UI would send a number of its own otherwise.
  @ApiBody({ type: RollbackDto, examples: { last: { summary: 'The one before', value: {} } } })
  @ApiOkResponse({ type: RevisionDto, description: 'The revision, which has the calls.', headers: ETAG })
  @ApiProblems('invalid_update', ...NOT_TAKEN_OVER)
  async rollBack(
    @Param('id') id: string,
    @Req() request: Request,
    @Res({ passthrough: true }) response: Response,
  ): Promise<RevisionDto> {
    const { revision } = await readRollback(request);
    const done = await this.audit.of('roll back', request, (named) =>
      this.revisions.rollBack(id, revision, { versions: versionsOf(request), named }),
    );
    tagVersion(request, response, done.row.version);
    return RevisionDto.of(done);
  }
}
