import { randomUUID } from 'node:crypto';
import { expect, it, vi } from 'vitest';
import { anAddress, converse, expectProblem } from '../../support/http.js';
import type { Stage } from '../../support/stage.js';
import { field, file, form, upload } from '../../support/uploads.js';

const SECRET = 'a-secret-in-a-query-0123';
const ANSI = '\u001b[2J\u001b[1;31m';
const FORGED = '{"level":"error","msg":"forged"}';
const LONGEST_LINE = 8 * 1024 + 1_024;
// oxlint-disable-next-line no-control-regex -- these are what must not be there
const OBEYED = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/;

/** Raises while it is loaded, with a text that would clear the screen and forge a line, and is long. */
const HOSTILE_IMPORT = `raise RuntimeError("\\x1b[2J\\r\\n" + '${FORGED}' + "\\u009b31m\\u202e\\n" + "x" * 100_000)`;

/** What clients and handlers send so that it gets into the log. In either format it must do nothing there. */
export function attackTheLog(stage: Stage): void {
  let addresses = 0;
  // Lines about one client that nobody knows are few.
  const from = () => anAddress((addresses += 1));

  /** What was logged meanwhile, line by line; checks that nothing in it is obeyed, forged or long. */
  async function logged(act: () => Promise<unknown>): Promise<string[]> {
    const before = stage.manager.log.length;
    const mark = `mark-${randomUUID()}`;
    await act();
    await stage.manager.send('/functions', { headers: { 'X-Request-Id': mark } });
    await vi.waitFor(() => expect(stage.manager.log.slice(before)).toContain(mark));
    const text = stage.manager.log.slice(before);
    expect(text).not.toMatch(OBEYED);
    const lines = text.trimEnd().split('\n');
    for (const line of lines) {
      expect(line.length).toBeLessThan(LONGEST_LINE);
      expect(line.startsWith(FORGED)).toBe(false);
      expect(line).toMatch(/^(?:\{"level":"|\[\d\d:|\s)/);
    }
    return lines;
  }

  it.each(['/nowhere', '/functions/aaaaaaaaaaaaaaaa', '/livez', '/metrics'])(
    'cuts a long path below %s, in its line and in the answer',
    async (path) => {
      const lines = await logged(async () => {
        const answer = await stage.manager.send(`${path}/${'x'.repeat(15_000)}`, { from: from() });
        expectProblem(answer, 404, 'route_not_found');
        expect(answer.text.length).toBeLessThan(1_000);
      });
      const about = lines.filter((line) => line.includes('xxx'));
      expect(about.length).toBeGreaterThan(0);
      for (const line of about) expect(line.length).toBeLessThan(800);
    },
  );

  it('cuts a long id in an answer', async () => {
    const path = `/functions/${'x'.repeat(15_000)}`;
    const answers = [
      await stage.manager.send(path),
      await stage.manager.send(path, { method: 'DELETE' }),
      await stage.manager.send(`${path}/execute`, { method: 'POST', body: '{"payload":""}' }),
    ];
    for (const answer of answers) {
      expectProblem(answer, 404, 'function_not_found');
      expect(answer.text.length).toBeLessThan(1_000);
    }
  });

  it('leaves queries out, whether or not there is such a route', async () => {
    const lines = await logged(async () => {
      for (const path of ['/functions', '/nowhere', '/functions/aaaaaaaaaaaaaaaa', '/docs', '/healthz']) {
        await stage.manager.send(`${path}?api_key=${SECRET}`, { from: from() });
        await stage.manager.send(`${path}#api_key=${SECRET}`, { from: from() });
      }
      await stage.manager.send(`/functions?limit=${SECRET}`);
      await stage.manager.call(`aaaaaaaaaaaaaaaa/execute?api_key=${SECRET}&x=`);
    });
    expect(lines.join()).not.toContain(SECRET);
    expect(lines.join()).toContain('/nowhere');
  });

  it('writes few lines about a client that shows nothing of itself, however much it asks', async () => {
    const path = `/nowhere-${randomUUID()}`;
    const client = from();
    const lines = await logged(() =>
      Promise.all(Array.from({ length: 100 }, () => stage.manager.send(path, { from: client }))),
    );
    expect(lines.filter((line) => line.includes(path)).length).toBeLessThanOrEqual(30);
  });

  it('writes nothing of other headers', async () => {
    const lines = await logged(async () => {
      const names = ['User-Agent', 'Referer', 'Cookie', 'X-Forwarded-For', 'Accept', 'Content-Type'];
      for (const name of names) await stage.manager.send('/nowhere', { from: from(), headers: { [name]: SECRET } });
    });
    expect(lines.join()).not.toContain(SECRET);
  });

  it.each([
    '/a\u009b2J\u009b31m',
    '/%1b%5b2J%0d%0a%7b%22level%22%3a%22error%22%7d',
    '/functions/%1b%5b2J%0a',
    '/functions/%E2%80%AE%C2%9B2J/code',
    '/functions/%zz',
  ])('obeys nothing in the path %j', async (path) => {
    await logged(async () => {
      const request = `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`;
      const answer = await converse(stage.manager.port, Buffer.from(request, 'latin1')).received;
      expect(answer).toMatch(/^HTTP\/1\.1 40\d /);
    });
  });

  it.each([`${ANSI}id`, `id\u009b2J`, `id ${FORGED}`, 'id\tid', 'i'.repeat(65), '<id>', 'id/../id'])(
    'puts an id of its own in place of %j',
    async (id) => {
      const lines = await logged(async () => {
        const request = `GET /functions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Request-Id: ${id}\r\n\r\n`;
        await converse(stage.manager.port, Buffer.from(request, 'latin1')).received;
      });
      expect(lines.join()).not.toContain(id);
    },
  );

  it('takes a line end in a header for the end of a header', async () => {
    await logged(async () => {
      const request = `GET /functions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Request-Id: id\n${FORGED}: x\r\n\r\n`;
      await converse(stage.manager.port, request).received;
    });
  });

  it('escapes and cuts what a handler says while it is loaded', async () => {
    const lines = await logged(async () => {
      const answer = await stage.manager.send('/functions', { method: 'POST', ...upload(HOSTILE_IMPORT) });
      expectProblem(answer, 422, 'handler_not_loadable');
    });
    const told = lines.filter((line) => line.includes('handler_not_loadable'));
    expect(told.length).toBeGreaterThan(0);
    for (const line of told) expect(line.length).toBeLessThan(LONGEST_LINE);
  });

  it('escapes what stands in a form', async () => {
    await logged(async () => {
      const hostile = `${ANSI}\r\n${FORGED}\u009b\u202e`;
      const forms = [
        upload('def handle(payload): return 1', hostile),
        form(file('def handle(payload): return 1'), field(hostile, 'x'), field('function_name', 'handle')),
        form(file('def handle(payload): return 1', hostile), field('function_name', 'no such name')),
      ];
      for (const one of forms) {
        const { status } = await stage.manager.send('/functions', { method: 'POST', ...one });
        expect(status).toBe(400);
      }
    });
  });
}
