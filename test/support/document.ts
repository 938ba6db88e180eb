import Ajv2020 from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { readFileSync } from 'node:fs';
import { expect } from 'vitest';

interface Document {
  readonly components: { readonly schemas: Record<string, { readonly properties: object }> };
}

const document = JSON.parse(readFileSync('openapi.json', 'utf8')) as Document;
const ajv = new Ajv2020.default({ strict: true, allErrors: true, allowUnionTypes: true });
addFormats.default(ajv, ['date-time', 'uri', 'uri-reference']);
for (const format of ['int64', 'binary']) ajv.addFormat(format, true);
for (const keyword of ['example', 'components', 'paths', 'openapi', 'info', 'servers', 'tags', 'security']) {
  ajv.addKeyword(keyword);
}
ajv.addSchema(document, 'openapi.json');

/** Checks that a value is as the document describes it, and has no member that the document doesn't name. */
export function expectAsDocumented(value: unknown, schema: string): void {
  const isValid = ajv.validate({ $ref: `openapi.json#/components/schemas/${schema}` }, value);
  expect(isValid ? [] : ajv.errors, JSON.stringify(value)).toEqual([]);
  const declared = Object.keys(document.components.schemas[schema]!.properties);
  expect(declared).toEqual(expect.arrayContaining(Object.keys(value as object)));
}
