import { LONGEST_REQUIREMENTS } from '#libs/config/config.js';
import type { IncomingMessage } from 'node:http';
import { PassThrough } from 'node:stream';
import { describe, expect, it, vi } from 'vitest';
import { field, file, form, type Form, type Part } from '../../../../test/support/uploads.js';
import { FORM_OVERHEAD_BYTES } from './upload-form.js';
import { readRevision, readRun, readUpload } from './upload.js';

const MOST_CODE = 2 * 1024 * 1024;
const CODE = `def handle(payload):\n    return payload\n# ${'x'.repeat(100_000)}\n`;
/** As long as it may be. */
const LOCK = Array.from(
  { length: 11_000 },
  (_, at) => `p${at}==1 --hash=sha256:${'a'.repeat(64)}`.padEnd(94) + '\n',
).join('');
const LONGEST = LOCK + '#'.repeat(LONGEST_REQUIREMENTS - LOCK.length);

type Request = PassThrough & IncomingMessage;

/** One of which nothing has arrived yet. */
function begun({ headers }: Form): Request {
  const lower = { 'content-type': headers['Content-Type'] };
  return Object.assign(new PassThrough(), { headers: lower, complete: true }) as unknown as Request;
}

function requestOf(whole: Form): Request {
  const request = begun(whole);
  request.end(whole.body);
  return request;
}

const policy = { defaults: {} as never, ceilings: () => ({}) };
const uncounted = { add: () => undefined };
const sent = (request: Form) => readRevision(requestOf(request), MOST_CODE, uncounted);
const asForm = (...parts: Part[]) => sent(form(...parts));
const jsonOf = (members: object) => ({
  headers: { 'Content-Type': 'application/json' },
  body: Buffer.from(JSON.stringify(members)),
});
const asJson = (members: object) => sent(jsonOf(members));
const ofFile = (name: string, content: string | Buffer): Part => ({ name, content, filename: 'f.txt' });

describe('Requirements of an upload', () => {
  it('may have 1 MiB, however they are sent', async () => {
    const settings = { requirements: LONGEST };
    expect((await asForm(file(CODE), field('requirements', LONGEST))).settings).toEqual(settings);
    expect((await asForm(ofFile('requirements_file', LONGEST))).settings).toEqual(settings);
    const read = await asJson({ code: CODE, requirements: LONGEST, timeout_ms: 5 });
    expect(read).toMatchObject({ code: Buffer.from(CODE), settings: { requirements: LONGEST, timeout_ms: 5 } });
    expect((await asJson({ requirements: LONGEST })).settings).toEqual(settings);
  });

  it('may have no more, and the error says where and how much', async () => {
    const most = String(LONGEST_REQUIREMENTS);
    const fault = (name: string) => ({ extras: { field: name }, message: expect.stringContaining(most) as string });
    await expect(asForm(field('requirements', `${LONGEST}#`))).rejects.toMatchObject(fault('requirements'));
    const asFile = asForm(ofFile('requirements_file', `${LONGEST}#`));
    await expect(asFile).rejects.toMatchObject(fault('requirements_file'));
    await expect(asJson({ code: CODE, requirements: `${LONGEST}#` })).rejects.toMatchObject(fault('requirements'));
  });

  it('make room for nothing else', async () => {
    const long = 'x'.repeat(65_537);
    await expect(asForm(file(CODE), field('message', long))).rejects.toMatchObject({
      extras: { field: 'message' },
      message: 'message is longer than 65536 bytes.',
    });
    const refused = {
      extras: { field: 'body' },
      message: 'The body holds more than 65536 bytes beside code and requirements.',
    };
    await expect(asJson({ code: CODE, message: long })).rejects.toMatchObject(refused);
    await expect(asJson({ code: CODE, requirements: LONGEST, message: long })).rejects.toMatchObject(refused);
    await expect(asForm(file('#'.repeat(MOST_CODE + 1)))).rejects.toMatchObject({ code: 'upload_too_large' });
  });

  it('leave the other texts of JSON as they are, whichever is the longest of them', async () => {
    const read = await asJson({ code: `#${'x'.repeat(65_536)}`, message: 'why', env: { LONG: 'y'.repeat(2_000) } });
    expect(read).toMatchObject({ message: 'why', settings: { env: { LONG: 'y'.repeat(2_000) } } });
    const run = { function_name: 'handle', code: CODE, payload: 'z'.repeat(60_000) };
    expect(await readRun(requestOf(jsonOf(run)), MOST_CODE, policy, uncounted)).toMatchObject({ payload: run.payload });
  });
});

describe('An upload as JSON', () => {
  it.each([
    ['function_name', { code: CODE, function_name: 1 }, 'function_name must be a string'],
    ['code', { code: 1, function_name: 'handle' }, 'code must be a string'],
    ['function_name', { code: CODE }, 'function_name is missing'],
    ['code', { code: null, function_name: 'handle' }, 'code is missing'],
  ])('is told what is wrong with its %s', async (name, members, message) => {
    await expect(readUpload(requestOf(jsonOf(members)), MOST_CODE, policy, uncounted)).rejects.toMatchObject({
      extras: { field: name },
      message: expect.stringContaining(message) as string,
    });
  });
});

describe('A text field of a form', () => {
  const NOT_UTF8 = Buffer.from('{"A": "\xe9"}', 'latin1');
  const typed = (content: Buffer, contentType: string): Part => ({ ...field('env', content), contentType });

  it.each([
    ['none', field('env', NOT_UTF8)],
    ['UTF-8', typed(NOT_UTF8, 'text/plain; charset=utf-8')],
    ['one that nobody knows', typed(Buffer.from('{"A": "x"}'), 'text/plain; charset=x-none')],
  ])('that is no text is refused where its part names as character set: %s', async (_, part) => {
    await expect(asForm(part)).rejects.toMatchObject({
      extras: { field: 'env' },
      message: expect.stringMatching(/^env is not UTF-8 text/) as string,
    });
  });

  it.each([
    ['ends in the middle of a character', '€'.repeat(600_000)],
    ['is no UTF-8', Buffer.alloc(2_000_000, 0xe9)],
  ])('that is too long is told so where what is read of it %s', async (_, content) => {
    for (const [name, most] of Object.entries({ requirements: LONGEST_REQUIREMENTS, env: 65_536, message: 65_536 })) {
      await expect(asForm(field(name, content))).rejects.toMatchObject({
        extras: { field: name },
        message: `${name} is longer than ${most} bytes.`,
      });
    }
  });

  it('is read in the character set that its part names', async () => {
    const settings = { env: { A: 'é' } };
    expect(await asForm(field('env', '{"A": "é"}'))).toMatchObject({ settings });
    expect(await asForm(typed(NOT_UTF8, 'text/plain; charset=iso-8859-1'))).toMatchObject({ settings });
  });
});

describe('A form that is too large', () => {
  const MOST_FORM = MOST_CODE + FORM_OVERHEAD_BYTES;
  const whole = { code: 'upload_too_large', extras: { field: 'form', limit_bytes: MOST_FORM } };

  it('is refused as a whole, announced or not', async () => {
    const sending = form(file(CODE), field('function_name', 'handle'), field('payload', 'x'.repeat(MOST_FORM)));
    await expect(readRun(requestOf(sending), MOST_CODE, policy, uncounted)).rejects.toMatchObject(whole);
    const announced = begun(form());
    announced.headers['content-length'] = String(MOST_FORM + 1);
    await expect(readRun(announced, MOST_CODE, policy, uncounted)).rejects.toMatchObject(whole);
  });
});

describe('The memory of a form', () => {
  it('counts as it arrives, before a field is whole', async () => {
    const sending = form(file('x = 1\n'), field('requirements', LONGEST));
    const request = begun(sending);
    let held = 0;
    const reading = readRevision(request, MOST_CODE, { add: (bytes) => void (held += bytes) });
    const half = sending.body.subarray(0, sending.body.length / 2);
    request.write(half);
    await vi.waitFor(() => expect(held).toBe(half.length));
    request.end(sending.body.subarray(half.length));
    await reading;
    expect(held).toBe(sending.body.length);
  });

  it('that there is not is told at once, and the rest is read and forgotten', async () => {
    const request = requestOf(form(file(CODE), field('requirements', LONGEST)));
    let room = 50_000;
    const full = new Error('full');
    const counted = (bytes: number) => {
      room -= bytes;
      if (room < 0) throw full;
    };
    await expect(readRevision(request, MOST_CODE, { add: counted })).rejects.toBe(full);
    await vi.waitFor(() => expect(request.readableEnded).toBe(true));
  });
});
