import type { Answer } from './handlers.js';
import type { Entry } from './ledger.js';
import type { WorkerView } from './site.js';

/** Which function each worker was seen with: one that has run a function must never run another, nor wait for one. */
export class Identities {
  /** By what the handlers themselves say of who runs them. */
  private readonly told = new Map<string, string>();
  /** By what the machine shows. */
  private readonly shown = new Map<string, string>();

  /** Answers what is wrong with who gave an answer, if anything. */
  objectionTo(
    { handler, id }: Pick<Entry, 'handler' | 'id'>,
    { worker, function: served }: Answer,
  ): string | undefined {
    const former = this.told.get(worker);
    this.told.set(worker, handler.token);
    if (former !== undefined && former !== handler.token) {
      return `USED TWICE: worker ${worker} ran ${handler.token} after it had run ${former}`;
    }
    if (id !== undefined && served !== id) return `worker ${worker} ran function ${id} as ${served}`;
    return undefined;
  }

  /** The same of workers as they run, of those that wait for a function too. */
  objections(workers: readonly WorkerView[]): string[] {
    return workers.flatMap(({ replica, functionId }) => {
      const former = this.shown.get(replica) ?? '';
      this.shown.set(replica, functionId);
      if (former === '' || former === functionId) return [];
      const now = functionId === '' ? 'waits in the pool' : `serves ${functionId}`;
      return [`USED TWICE: worker ${replica.slice(0, 12)} ${now} after it has served ${former}`];
    });
  }
}
