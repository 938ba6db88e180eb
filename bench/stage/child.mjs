import { fork, spawn } from 'node:child_process';
import { createServer } from 'node:net';

const KEPT_OUTPUT = 8 * 1024;

/**
 * A program that was started, with the end of what it wrote. In a group of its own, so that Ctrl-C doesn't reach it
 * ahead of us.
 */
export class Child {
  #child;
  #ended;
  #output = '';

  constructor(child) {
    this.#child = child;
    const keep = (chunk) => (this.#output = (this.#output + chunk).slice(-KEPT_OUTPUT));
    this.#child.stdout.on('data', keep);
    this.#child.stderr.on('data', keep);
    const { promise, resolve } = Promise.withResolvers();
    this.#ended = promise;
    this.#child.on('error', (error) => resolve(error.message));
    this.#child.on('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
  }

  get pid() {
    return this.#child.pid;
  }

  /** `stdin`: 'pipe' for one that ends with its standard input, and so with this process. */
  static run(program, args, { env, cwd, stdin = 'ignore' } = {}) {
    return new Child(spawn(program, args, { env, cwd, stdio: [stdin, 'pipe', 'pipe'], detached: true }));
  }

  /** A module of ours in a process of its own, with a channel to it. */
  static module(url, args = []) {
    return new Child(fork(url, args, { stdio: ['ignore', 'pipe', 'pipe', 'ipc'], detached: true }));
  }

  /** Rejects when the program ends, with the end of what it wrote. */
  async failure(what) {
    const how = await this.#ended;
    throw new Error(`${what} ended (${how}):\n${this.#output.trimEnd()}`);
  }

  /** Says something over the channel, and resolves with what it says next; rejects when it ends instead. */
  ask(what, question) {
    const answer = new Promise((resolve) => this.#child.once('message', resolve));
    if (question !== undefined) this.#child.send(question);
    return Promise.race([answer, this.failure(what)]);
  }

  /** Says something that isn't answered. */
  tell(message) {
    this.#child.send(message);
  }

  /** Asks it to end, and insists after a while. */
  async end(patienceMs = 3_000) {
    this.#child.kill('SIGTERM');
    const late = setTimeout(() => this.#killGroup(), patienceMs);
    await this.#ended;
    clearTimeout(late);
    this.#killGroup();
  }

  #killGroup() {
    try {
      process.kill(-this.#child.pid, 'SIGKILL');
    } catch {
      // Nobody is left in it.
    }
  }
}

/** A port of loopback that nobody has. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
