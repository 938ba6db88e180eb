import { applyDecorators } from '@nestjs/common';
import { ApiHeader } from '@nestjs/swagger';
import { QueryParameter } from '../http/query.js';

/** How a call chooses its revision; `verb`: what that shall do. */
export function ChoosesRevision(verb: 'answer' | 'run it'): MethodDecorator {
  // Applied in this order, each before those that are there: the reverse of what is shown.
  return applyDecorators(
    ApiHeader({
      name: 'X-Faas-Sticky',
      required: false,
      description: 'Calls with the same key have the same revision for as long as the traffic stays as it is.',
      schema: { type: 'string' },
    }),
    QueryParameter({
      name: 'tag',
      required: false,
      description: `The tag of the revision that shall ${verb}.`,
      schema: { type: 'string', maxLength: 63 },
    }),
    QueryParameter({
      name: 'revision',
      required: false,
      description: `The revision that shall ${verb}, which must be among those of the traffic${verb === 'answer' ? '' : ', also when it runs'}.`,
      schema: { type: 'integer', minimum: 1, maximum: 999_999_999 },
    }),
  );
}
