import { Orchestrator } from '#libs/orchestrator/orchestrator.js';

/**
 * An engine that costs next to nothing: replicas are ready as soon as they are wanted, and all of them are one server
 * that several managers reach (echo-worker.mjs). It has the name and the place of the engine for processes.
 */
export class ProcessOrchestrator extends Orchestrator {
  engine = 'process';
  capabilities = { scalesItself: false, isolates: true, largestCodeBytes: Infinity };
  #address = { kind: 'tcp', host: '127.0.0.1', port: Number(process.env.BENCH_ECHO_PORT) };
  #tokens;
  #present = new Set();

  constructor(_config, _owner, tokens) {
    super();
    this.#tokens = tokens;
  }

  async ensure({ functionId, revision, replicas }, _signal, onReady) {
    const endpoints = Array.from({ length: replicas }, (_, number) => {
      const replica = `${functionId}-${revision}-${number}`;
      const { credential } = this.#tokens.issue(replica);
      return { replica, address: this.#address, guard: 'worker', credential };
    });
    if (replicas > 0) this.#present.add(functionId);
    else this.#present.delete(functionId);
    if (replicas > 0) onReady?.(endpoints);
    return { replicas, ready: replicas, endpoints, primary: endpoints[0]?.replica ?? '', hostPort: 0 };
  }

  async remove(functionId) {
    this.#present.delete(functionId);
  }

  async list() {
    return [...this.#present];
  }

  watch(_onChange, signal) {
    return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  }

  async *logs() {}

  async ping() {}
}
