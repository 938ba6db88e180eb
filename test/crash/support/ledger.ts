import { type FunctionRow, type Reply, shown } from './caller.js';
import type { Handler } from './handlers.js';

/**
 * What clients may believe of a function. `uploading` and `unsure` may be there or not; `present` was promised with
 * 201; `removing` was asked to go and may or may not have been heard; `going` was promised to go; `gone` is gone.
 */
export type Belief = 'uploading' | 'unsure' | 'refused' | 'present' | 'removing' | 'going' | 'gone';

export interface Entry {
  readonly handler: Handler;
  id: string | undefined;
  belief: Belief;
  /** How often its worker was killed: too often in a short time, and the managers rightly wait longer and longer. */
  strikes: number;
}

/** What was promised to clients, to be compared with what there is. */
export class Ledger {
  readonly entries: Entry[] = [];

  add(handler: Handler): Entry {
    const entry: Entry = { handler, id: undefined, belief: 'uploading', strikes: 0 };
    this.entries.push(entry);
    return entry;
  }

  with(...beliefs: Belief[]): Entry[] {
    return this.entries.filter(({ belief }) => beliefs.includes(belief));
  }

  byId(id: string): Entry | undefined {
    return this.entries.find((entry) => entry.id === id);
  }

  /** Answers what is wrong with the reply, if anything. */
  uploaded(entry: Entry, reply: Reply): string | undefined {
    entry.belief = 'unsure';
    if (reply.kind === 'broken' && reply.excused) return undefined;
    if (reply.kind === 'answer') {
      if (reply.status === 201) {
        entry.id = (JSON.parse(reply.body.toString('utf8')) as FunctionRow).id;
        entry.belief = 'present';
        return undefined;
      }
      // The database went away: whether the row was written, nobody knows.
      if (reply.code === 'database_unavailable') return undefined;
      if (reply.code === 'function_not_ready' || reply.code === 'orchestrator_unavailable') {
        entry.belief = 'refused';
        return undefined;
      }
    }
    return `an upload of good code was answered with ${shown(reply)}`;
  }

  removed(entry: Entry, reply: Reply): string | undefined {
    if (reply.kind === 'broken' && reply.excused) return undefined;
    if (reply.kind === 'answer') {
      if (reply.status === 204) entry.belief = 'gone';
      else if (reply.status === 202) entry.belief = 'going';
      if (reply.status < 300 || reply.code === 'database_unavailable') return undefined;
    }
    return `the removal of ${entry.id} was answered with ${shown(reply)}`;
  }

  /** Answers why a listed function may not be there, or `undefined` when it may. */
  objection({ id, status }: FunctionRow): string | undefined {
    const entry = this.byId(id);
    if (entry === undefined || status === 'deleting') return undefined;
    switch (entry.belief) {
      case 'gone':
        return `function ${id} is back after its removal was answered with 204`;
      case 'going':
        return `function ${id} is ${status} after its removal was recorded with 202`;
      case 'refused':
        return `function ${id} is ${status} after its upload was refused`;
      case 'uploading':
      case 'unsure':
      case 'present':
      case 'removing':
        return undefined;
    }
  }

  /** Functions that were promised and are not in the list. */
  lost(listed: ReadonlySet<string>): Entry[] {
    return this.with('present').filter(({ id }) => id !== undefined && !listed.has(id));
  }

  /** Once all has come to rest: what nobody knew is known now. */
  settle(listed: ReadonlySet<string>): void {
    for (const entry of this.entries) {
      const there = entry.id !== undefined && listed.has(entry.id);
      if (there && (entry.belief === 'removing' || entry.belief === 'unsure')) entry.belief = 'present';
      else if (!there && (entry.belief === 'removing' || entry.belief === 'going')) entry.belief = 'gone';
    }
  }
}
