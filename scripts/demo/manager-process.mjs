import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { say } from '../setup/progress.mjs';
import { stopChild } from '../setup/stop-child.mjs';

const READY_MS = 120_000;
const STOP_MS = 45_000;

/** The address to listen on: the one asked for, or a free port of the same host when it is taken. */
export async function chooseAddress(asked = process.env.LISTEN_ADDR || ':8080') {
  const split = asked.lastIndexOf(':');
  const host = asked.slice(0, split).replace(/^\[(.*)\]$/, '$1');
  const port = Number(asked.slice(split + 1));
  const reachable = host === '' || host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
  const free = (await tryPort(reachable, port)) ?? (await tryPort(reachable, 0));
  if (free === undefined)
    throw new Error(`Nothing can listen on ${asked}: set LISTEN_ADDR to an address of this machine.`);
  if (port !== 0 && free !== port) say(`• Port ${port} is taken, this demo uses ${free} instead.`);
  const shown = reachable.includes(':') ? `[${reachable}]` : reachable;
  return { listen: `${asked.slice(0, split)}:${free}`, url: `http://${shown}:${free}` };
}

function tryPort(host, port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.on('error', () => resolve(undefined));
    server.listen(port, host, () => {
      const { port: free } = server.address();
      server.close(() => resolve(free));
    });
  });
}

export class ManagerProcess {
  #child;
  #ended;
  /** @type {string | undefined} */
  #how;

  constructor(root, environment) {
    this.#child = spawn(
      process.execPath,
      ['--enable-source-maps', join(root, 'dist', 'apps', 'manager', 'src', 'main.js')],
      {
        cwd: root,
        env: { ...process.env, ...environment },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => say(dim(`  manager │ ${line}`)));
    }
    this.#ended = new Promise((resolve) => {
      const end = (how) => resolve((this.#how ??= how));
      this.#child.on('error', (error) => end(error.message));
      this.#child.on('close', (code, signal) => end(signal ?? `exit code ${code}`));
    });
  }

  /** Settles when the manager has ended, with its exit code or signal as text. */
  get ended() {
    return this.#ended;
  }

  async untilReady(url) {
    const deadline = Date.now() + READY_MS;
    let seen = 'no answer';
    while (Date.now() < deadline) {
      if (this.#how !== undefined) throw new Error(`The manager ended (${this.#how}); its last lines above say why.`);
      try {
        const answer = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(2_000) });
        const body = await answer.text();
        if (answer.status === 200) return;
        seen = `${answer.status} ${body.slice(0, 300)}`;
      } catch (error) {
        seen = error.cause?.code ?? error.message;
      }
      await delay(150);
    }
    throw new Error(`The manager did not become ready within ${READY_MS / 1000} s: ${seen}`);
  }

  signal(name) {
    this.#child.kill(name);
  }

  async stop() {
    await stopChild(this.#child, STOP_MS);
    const how = await this.#ended;
    return how === 'exit code 0' || how === 'SIGTERM';
  }
}

function dim(text) {
  return process.stdout.isTTY ? `\u001b[2m${text}\u001b[22m` : text;
}
