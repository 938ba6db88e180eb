import type { ChildProcess } from 'node:child_process';
import { isAlive, type ProcessTable } from './process-table.js';
import type { ReplicaExit, ReplicaFiles, ReplicaRecord } from './replica-files.js';

interface Watched {
  readonly record: ReplicaRecord;
  /** Only what this manager started itself tells its exit status. */
  readonly child?: ChildProcess;
  reported: boolean;
}

/** Knows whether replicas live: its own children by their exit, adopted ones by looking. */
export class ReplicaWatch {
  private readonly watched = new Map<string, Watched>();

  constructor(
    private readonly table: ProcessTable,
    private readonly files: ReplicaFiles,
    private readonly onEnd: (record: ReplicaRecord) => void,
  ) {}

  own(record: ReplicaRecord, child: ChildProcess): void {
    const watched: Watched = { record, child, reported: false };
    this.watched.set(record.replica, watched);
    child.once('exit', (code, signal) => {
      // Another manager has no other way to learn it. The folder may be gone already, with nobody left to ask.
      const noted = this.files.saveExit(record, { code, signal, at: Date.now() }).catch(() => undefined);
      void noted.then(() => this.report(watched));
    });
  }

  adopt(record: ReplicaRecord): void {
    const known = this.watched.get(record.replica);
    this.watched.set(record.replica, { reported: false, ...known, record });
  }

  forget(replica: string): void {
    this.watched.delete(replica);
  }

  records(): ReplicaRecord[] {
    return [...this.watched.values()].map(({ record }) => record);
  }

  /** Undefined while it lives; how it ended otherwise, as far as anybody knows. */
  async endOf(record: ReplicaRecord): Promise<Partial<ReplicaExit> | undefined> {
    const child = this.watched.get(record.replica)?.child;
    if (child !== undefined) {
      if (child.exitCode === null && child.signalCode === null) return undefined;
      return { code: child.exitCode, signal: child.signalCode, at: Date.now() };
    }
    if (record.process !== undefined && (await isAlive(this.table, record.process))) return undefined;
    return (await this.files.exitOf(record)) ?? {};
  }

  /** Looks at the adopted ones; own children tell by themselves. */
  async look(): Promise<void> {
    for (const watched of [...this.watched.values()]) {
      if (watched.child !== undefined || watched.reported || watched.record.process === undefined) continue;
      if (!(await isAlive(this.table, watched.record.process))) this.report(watched);
    }
  }

  private report(watched: Watched): void {
    if (this.watched.get(watched.record.replica)?.child !== watched.child || watched.reported) return;
    watched.reported = true;
    this.onEnd(this.watched.get(watched.record.replica)?.record ?? watched.record);
  }
}
