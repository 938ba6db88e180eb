import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { say } from '../setup/progress.mjs';

const CALL_MS = 180_000;
const EXAMPLE = 'examples/handler.py';

/** The demo's calls, each shown as the curl command that does the same. */
export class DemoCalls {
  #root;
  #url;
  #remembered;

  constructor(root, url) {
    this.#root = root;
    this.#url = url;
    this.#remembered = join(root, '.cache', 'demo.json');
  }

  async list() {
    return this.#call('GET', '/functions', '');
  }

  /** One demo's function is enough: the last run's is used again, unless the example has changed since. */
  async ensureFunction(functions) {
    const code = readFileSync(join(this.#root, EXAMPLE));
    const known = functions.find(({ id }) => id === this.#lastId());
    if (known !== undefined) {
      const same = (await this.#codeOf(known.id))?.equals(code) === true;
      if (same && known.status !== 'error' && known.status !== 'deleting') {
        say(`• ${known.id} is there from the last time and is used again.`);
        return known.id;
      }
      await this.remove(known.id);
    }
    const form = new FormData();
    form.set('python_file', new Blob([code], { type: 'text/x-python' }), 'handler.py');
    form.set('function_name', 'handle');
    const shown = `-F python_file=@${EXAMPLE} -F function_name=handle`;
    const { id } = await this.#call('POST', '/functions', shown, { body: form });
    this.#remember(id);
    return id;
  }

  async execute(id, payload) {
    const body = JSON.stringify({ payload });
    const shown = `-H 'Content-Type: application/json' -d '${body.replaceAll("'", "'\\''")}'`;
    const init = { body, headers: { 'Content-Type': 'application/json' } };
    return this.#call('POST', `/functions/${id}/execute`, shown, init);
  }

  async remove(id) {
    await this.#call('DELETE', `/functions/${id}`, '-X DELETE');
    this.#remember(undefined);
  }

  async #call(method, path, shown, init = {}) {
    say(`\n$ curl -s ${[...this.#shownKey(), shown, `${this.#url}${path}`].filter(Boolean).join(' ')}`);
    const began = performance.now();
    const answer = await fetch(this.#url + path, {
      method,
      ...init,
      headers: { ...this.#key(), ...init.headers },
      signal: AbortSignal.timeout(CALL_MS),
    });
    const text = await answer.text();
    say(`${answer.status} in ${(performance.now() - began).toFixed(1)} ms${text === '' ? '' : `  ${text}`}`);
    if (!answer.ok) throw new Error(`${method} ${path} answered ${answer.status}`);
    return text === '' ? undefined : JSON.parse(text);
  }

  async #codeOf(id) {
    const answer = await fetch(`${this.#url}/functions/${id}/code`, {
      headers: this.#key(),
      signal: AbortSignal.timeout(10_000),
    });
    const bytes = Buffer.from(await answer.arrayBuffer());
    return answer.ok ? bytes : undefined;
  }

  #key() {
    const key = configuredKey() ?? this.#madeKey();
    return key === undefined ? {} : { 'X-Api-Key': key };
  }

  #shownKey() {
    if (configuredKey() !== undefined) return ['-H "X-Api-Key: $API_KEY"'];
    return this.#madeKey() === undefined ? [] : [`-H "X-Api-Key: $(cat ${this.keyFile})"`];
  }

  /** Where a manager of plain processes keeps the key that it made; undefined where it made none. */
  get keyFile() {
    if (this.#madeKey() === undefined) return undefined;
    return join(process.env.FUNCTION_STORAGE_DIR || '.data', 'api-key');
  }

  /** A manager that asks for no key minds none. */
  #madeKey() {
    try {
      return readFileSync(resolve(this.#root, process.env.FUNCTION_STORAGE_DIR || '.data', 'api-key'), 'utf8').trim();
    } catch {
      return undefined;
    }
  }

  #lastId() {
    try {
      return JSON.parse(readFileSync(this.#remembered, 'utf8')).id;
    } catch {
      return undefined;
    }
  }

  #remember(id) {
    mkdirSync(dirname(this.#remembered), { recursive: true });
    writeFileSync(this.#remembered, JSON.stringify({ id }));
  }
}

/** The first of API_KEYS that may do everything. */
function configuredKey() {
  const { API_KEYS: keys, API_KEYS_FILE: file } = process.env;
  const entries = (keys || (file ? readFileSync(file, 'utf8') : '')).split(/[,\r\n]/).map((entry) => entry.trim());
  const entry = entries.find((one) => one !== '' && (!one.includes(':') || one.split(':')[1] === 'admin'));
  return entry
    ?.split(':')
    .slice(entry.includes(':') ? 2 : 0)
    .join(':');
}
