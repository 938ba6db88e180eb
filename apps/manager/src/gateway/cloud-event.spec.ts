import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { checkBinary, checkStructured, eventModeOf } from './cloud-event.js';
import { InvalidEvent } from './errors.js';

const EVENT = { specversion: '1.0', id: '1', source: '/sensors/7', type: 'com.example.measured' };
const HEADERS = Object.fromEntries(Object.entries(EVENT).map(([name, value]) => [`ce-${name}`, value]));
const structured = (event: object) => checkStructured(Buffer.from(JSON.stringify(event)));

function faultOf(check: () => void): { field: unknown; message: string } {
  try {
    check();
  } catch (error) {
    if (error instanceof InvalidEvent) return { field: error.extras['field'], message: error.message };
    throw error;
  }
  throw new Error('It was taken.');
}

describe('an event', () => {
  it.each([
    [{}, undefined],
    [{ 'content-type': 'application/json' }, undefined],
    [{ 'ce-madeup': 'x' }, undefined],
    // Others have headers of these names, too.
    [{ 'ce-id': '1', 'ce-type': 'x' }, undefined],
    [{ 'ce-specversion': '1.0' }, 'binary'],
    [HEADERS, 'binary'],
    [{ 'content-type': 'application/cloudevents+json; charset=utf-8' }, 'structured'],
    [{ 'content-type': 'Application/CloudEvents+JSON', ...HEADERS }, 'structured'],
    [{ 'content-type': 'application/cloudevents-batch+json' }, 'other'],
    [{ 'content-type': 'application/cloudevents+xml' }, 'other'],
  ])('is told by its headers %j', (headers, mode) => expect(eventModeOf(headers)).toBe(mode));

  it('may have all attributes of the specification and extensions of its kinds', () => {
    const all = {
      ...EVENT,
      time: '2026-11-23T12:00:00.123Z',
      subject: 'Grüße 7',
      dataschema: 'https://example.org/schema#v1',
      datacontenttype: 'application/json; charset=utf-8',
      ...{ sampled: true, sequence: -5, traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' },
    };
    structured({ ...all, data: { any: ['thing', null, { deep: 1 }] } });
    structured({ ...all, subject: null, data_base64: 'aGVsbG8=' });
    structured({ ...EVENT, data: 'x'.repeat(500_000) });
    structured({ ...EVENT, data_base64: '' });
    // As some write slashes.
    const slashes = String.raw`"a\/\/+"`;
    const body = JSON.stringify({ ...EVENT, data_base64: '$' }).replace('"$"', slashes);
    checkStructured(Buffer.from(body));
    checkStructured(Buffer.from(body.replace(slashes, `"${String.raw`a\/\/+`.repeat(100_000)}"`)));
    checkBinary({ ...HEADERS, 'ce-subject': encodeURIComponent('Grüße 7'), 'ce-source': '%2Fsensors%2F7' });
    checkBinary({ ...HEADERS, 'ce-source': String.raw`"/sensors\/7"`, 'ce-constructor': 'any' });
  });

  it.each(['specversion', 'id', 'source', 'type'])('must have %s', (name) => {
    const { [name as 'id']: _, ...rest } = EVENT;
    expect(faultOf(() => structured(rest))).toEqual({ field: name, message: `${name} is missing.` });
    const { [`ce-${name}`]: __, ...headers } = HEADERS;
    expect(faultOf(() => checkBinary(headers))).toEqual({ field: name, message: `${name} is missing.` });
  });

  it.each([
    [{ specversion: '0.3' }, 'specversion', /1\.0/],
    [{ specversion: 1 }, 'specversion', /text/],
    [{ id: '' }, 'id', /empty/],
    [{ type: '' }, 'type', /empty/],
    [{ id: 7 }, 'id', /text/],
    [{ source: 'my sensor' }, 'source', /URI reference/],
    [{ time: 'yesterday' }, 'time', /RFC 3339/],
    [{ time: '2026-02-30T25:00:00Z' }, 'time', /RFC 3339/],
    [{ dataschema: '/relative' }, 'dataschema', /URI/],
    [{ datacontenttype: 'json' }, 'datacontenttype', /media type/],
    [{ subject: '' }, 'subject', /empty/],
    [{ subject: 'a\u0007' }, 'subject', /characters/],
    [{ subject: '\ud800' }, 'subject', /characters/],
    [{ Upper: '1' }, 'Upper', /name/],
    [{ 'with-dash': '1' }, 'with-dash', /name/],
    [{ list: ['a'] }, 'list', /text, a number or a boolean/],
    [{ huge: 2 ** 31 }, 'huge', /text, a number or a boolean/],
    [{ data: 1, data_base64: 'YQ==' }, 'data_base64', /not both/],
    [{ data_base64: 1 }, 'data_base64', /text/],
  ])('with %j is refused', (wrong, field, message) => {
    const fault = faultOf(() => structured({ ...EVENT, ...wrong }));
    expect(fault.field).toBe(field);
    expect(fault.message).toMatch(message);
  });

  it('must have base64 as data_base64, of whatever length', () => {
    const long = 'YWJj'.repeat(100_000);
    for (const text of ['?', 'YQ', 'YQ=', 'Y===', 'YQ==YQ==', 'YWJj\n', 'a-_b', 'é+/a', `${long}YQ`, `${long}Y?==`]) {
      const fault = faultOf(() => structured({ ...EVENT, data_base64: text }));
      expect(fault.field).toBe('data_base64');
      expect(fault.message).toMatch('must be base64');
    }
  });

  it('in the body must be JSON, with little beside a long text', () => {
    for (const body of ['', '{', '[]', '"x"', 'null']) {
      expect(faultOf(() => checkStructured(Buffer.from(body))).field).toBe('body');
    }
    expect(faultOf(() => checkStructured(Buffer.from([0x7b, 0xff, 0x7d]))).message).toMatch('UTF-8');
    for (const packed of [gzipSync(JSON.stringify(EVENT)), Buffer.from('no JSON')]) {
      const fault = faultOf(() => checkStructured(packed, { 'content-encoding': 'gzip' }));
      expect(fault.field).toBe('Content-Encoding');
      expect(fault.message).toMatch(/is "gzip", and events are not unpacked\. Send it uncompressed/);
      expect(faultOf(() => checkStructured(packed, { 'content-encoding': 'identity' })).field).toBe('body');
    }
    expect(faultOf(() => structured({ ...EVENT, data: Array(40_000).fill('ab') })).message).toMatch('binary mode');
  });
});
