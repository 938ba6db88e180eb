import { describe, expect, it } from 'vitest';
import { gzipSync } from 'node:zlib';
import { describeOnAnyEngine } from '../support/engines.js';
import { ECHO } from '../support/handlers.js';
import { converse, expectProblem } from '../support/http.js';
import { Stage } from '../support/stage.js';
import { field, file, form, type Form, type Part, upload } from '../support/uploads.js';

const MIB = 1024 * 1024;
const NAME = field('function_name', 'handle');
/** Such a part counts as none. */
const NAMELESS: Part = { name: '', content: '', disposition: 'attachment' };
const REFUSED: readonly { readonly what: string; readonly field: string; readonly parts: readonly Part[] }[] = [
  { what: 'nothing', field: 'python_file', parts: [] },
  { what: 'no file', field: 'python_file', parts: [NAME] },
  { what: 'no name', field: 'function_name', parts: [file(ECHO)] },
  { what: 'two files', field: 'python_file', parts: [file(ECHO), NAME, file(ECHO)] },
  { what: 'the name twice', field: 'function_name', parts: [file(ECHO), NAME, NAME] },
  { what: 'a field of no known name', field: 'timeout', parts: [file(ECHO), NAME, field('timeout', '5')] },
  { what: 'a field in capitals', field: 'Function_Name', parts: [file(ECHO), NAME, field('Function_Name', 'f')] },
  {
    what: 'a file of no known name',
    field: 'requirements',
    parts: [file(ECHO), NAME, { ...file(''), name: 'requirements' }],
  },
  { what: 'the file as a text field', field: 'python_file', parts: [field('python_file', ECHO), NAME] },
  {
    what: 'the name as a file',
    field: 'function_name',
    parts: [file(ECHO), { name: 'function_name', content: 'handle', filename: 'name.txt' }],
  },
  { what: 'an empty file', field: 'python_file', parts: [file(''), NAME] },
  {
    what: 'a text that is not UTF-8',
    field: 'description',
    parts: [file(ECHO), NAME, field('description', Buffer.from([0xe9]))],
  },
  { what: 'a file that is not UTF-8', field: 'python_file', parts: [file(Buffer.from([0x23, 0xe9, 0x0a])), NAME] },
  {
    what: 'a file that says that it is UTF-8, and is not',
    field: 'python_file',
    parts: [file(Buffer.from('# coding: utf-8\n# \u00e9\n', 'latin1')), NAME],
  },
  { what: 'a file with a NUL', field: 'python_file', parts: [file(`${ECHO}\0`), NAME] },
  { what: 'a time limit of 0', field: 'timeout_ms', parts: [file(ECHO), NAME, field('timeout_ms', '0')] },
  { what: 'a time limit below 0', field: 'timeout_ms', parts: [file(ECHO), NAME, field('timeout_ms', '-1')] },
  { what: 'a time limit in words', field: 'timeout_ms', parts: [file(ECHO), NAME, field('timeout_ms', 'soon')] },
  { what: 'a time limit past the most', field: 'timeout_ms', parts: [file(ECHO), NAME, field('timeout_ms', '900001')] },
  { what: 'an empty time limit', field: 'timeout_ms', parts: [file(ECHO), NAME, field('timeout_ms', '')] },
  {
    what: 'a field of 5,000 bytes',
    field: 'timeout_ms',
    parts: [file(ECHO), NAME, field('timeout_ms', '1'.repeat(5_000))],
  },
  {
    what: 'a hundred parts',
    field: 'form',
    parts: [...Array.from({ length: 100 }, () => NAMELESS), file(ECHO), NAME],
  },
];

const NAMES = [
  '',
  ' ',
  'handle ',
  'os.system',
  'handler.handle',
  '__import__("os")',
  '1st',
  'my-handler',
  'handle()',
  'handle\n',
  'two words',
  'class',
  'None',
  'await',
  'лямбда!',
  '💥',
  '../handle',
  'x'.repeat(201),
  'x'.repeat(4_096),
];

const padded = (bytes: number) => ECHO + `# ${'x'.repeat(bytes - ECHO.length - 3)}\n`;

describeOnAnyEngine('an upload form', (engine) => {
  const stage = Stage.on(engine, { REQUEST_TIMEOUT_MS: '30000' });
  const post = (sent: Form) => stage.manager.send('/functions', { method: 'POST', ...sent });

  it.each(REFUSED)('with $what is refused for its field $field', async ({ field, parts }) => {
    const problem = expectProblem(await post(form(...parts)), 400, 'invalid_upload');
    expect(problem.field).toBe(field);
  });

  it('is told which fields there are when it has one that is unknown', async () => {
    const problem = expectProblem(await post(form(file(ECHO), NAME, field('timeout', '5'))), 400, 'invalid_upload');
    expect(problem.detail).toContain(
      'Known: python_file, requirements_file, function_name, name, description, labels, enabled, public, invocation_defaults, history, timeout_ms',
    );
  });

  it.each(NAMES)('with %j for a name is refused', async (name) => {
    const problem = expectProblem(await post(upload(ECHO, name)), 400, 'invalid_upload');
    expect(problem).toMatchObject({ field: 'function_name' });
    expect(problem.detail.length).toBeLessThan(400);
  });

  it('takes dunder names for what they are: there is no such callable, or it takes something else', async () => {
    for (const name of ['__name__', '__builtins__', '__init__', '__class__', '__dir__', '_', 'match']) {
      expectProblem(await post(upload(ECHO, name)), 422, 'handler_not_loadable');
    }
  });

  it.each(['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data', ''])(
    'sent as %j is refused',
    async (type) => {
      const answer = await post({ headers: { 'Content-Type': type }, body: upload(ECHO).body });
      expect(expectProblem(answer, 400, 'invalid_upload').field).toBe('form');
    },
  );

  it('without a content type, or without a body, is refused', async () => {
    for (const sent of [{ method: 'POST', body: 'x' }, { method: 'POST' }]) {
      expect(expectProblem(await stage.manager.send('/functions', sent), 400, 'invalid_upload').field).toBe('form');
    }
  });

  it('with another boundary than its header says is refused', async () => {
    const { body } = upload(ECHO);
    expectProblem(
      await post({ headers: { 'Content-Type': 'multipart/form-data; boundary=x' }, body }),
      400,
      'invalid_upload',
    );
  });

  it('that ends in the middle is refused, wherever it ends', async () => {
    const { headers, body } = upload(ECHO);
    for (let length = 0; length < body.length - 4; length += 23) {
      const answer = await post({ headers, body: body.subarray(0, length) });
      expectProblem(answer, 400, 'invalid_upload');
    }
  });

  it('with malformed part headers is refused', async () => {
    const headers = { 'Content-Type': 'multipart/form-data; boundary=b' };
    const forms = [
      '--b\r\n\r\nno header\r\n--b--\r\n',
      '--b\r\nContent-Disposition: attachment; name="python_file"\r\n\r\nx\r\n--b--\r\n',
      '--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n',
      `--b\r\n${'X-Long: '.padEnd(20_000, 'x')}\r\n\r\nx\r\n--b--\r\n`,
      '--b\r\nbad header\r\n\r\nx\r\n--b--\r\n',
      '--b--\r\n',
      '\r\n',
      'garbage',
    ];
    for (const body of forms) expectProblem(await post({ headers, body: Buffer.from(body) }), 400, 'invalid_upload');
  });

  it('that is compressed is refused with 415', async () => {
    const { headers, body } = upload(ECHO);
    const compressed = { headers: { ...headers, 'Content-Encoding': 'gzip' }, body: gzipSync(body) };
    expectProblem(await post(compressed), 415, 'unsupported_encoding');
  });

  describe('at its limit', () => {
    it('takes a file of exactly 10 MiB', async () => {
      const code = padded(10 * MIB);
      const answer = await post(upload(code));
      expect(answer.status).toBe(201);
      const { id } = answer.json() as { id: string };
      expect((await stage.manager.send(`/functions/${id}/code`)).text === code).toBe(true);
      expect((await stage.manager.call(id, 'x')).text).toBe('{"result":"x"}');
      await stage.manager.remove(id);
    });

    it('refuses one byte more with 413, and a form that is far larger before reading it', async () => {
      const problem = expectProblem(await post(upload(padded(10 * MIB + 1))), 413, 'upload_too_large');
      expect(problem).toMatchObject({ field: 'python_file', limit_bytes: 10 * MIB });
      const { headers } = upload('');
      const announced = `POST /functions HTTP/1.1\r\nHost: localhost\r\nContent-Type: ${headers['Content-Type']}\r\n`;
      const { received, socket } = converse(stage.manager.port, `${announced}Content-Length: 99999999999\r\n\r\n--`);
      socket.once('data', () => socket.destroy());
      expect(await received).toMatch(/^HTTP\/1\.1 413 /);
    });

    it('does not blame the file where a text field makes the form too large', async () => {
      const large = form(file(ECHO), NAME, field('description', 'x'.repeat(20 * MIB)));
      expect(expectProblem(await post(large), 413, 'upload_too_large')).toMatchObject({ field: 'form' });
    });

    it('refuses an endless form without a length', async () => {
      const { headers } = upload('');
      const type = headers['Content-Type'];
      const boundary = type.split('boundary=')[1]!;
      const { received, socket } = converse(
        stage.manager.port,
        `POST /functions HTTP/1.1\r\nHost: localhost\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked\r\n\r\n`,
      );
      const send = (text: string) => socket.write(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`);
      send(`--${boundary}\r\nContent-Disposition: form-data; name="python_file"; filename="h.py"\r\n\r\n`);
      const chunk = '#'.repeat(MIB);
      const flow = () => {
        while (!socket.destroyed && send(chunk));
      };
      socket.on('drain', flow);
      flow();
      socket.once('data', () => socket.destroy());
      expect(await received).toMatch(/^HTTP\/1\.1 413 /);
    });
  });

  it('that was refused has left nothing behind', async () => {
    expect((await stage.manager.send('/functions')).text).toBe('[]');
    expect(await stage.room.workers()).toEqual([]);
  });
});
