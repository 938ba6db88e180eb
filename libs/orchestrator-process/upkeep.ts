import type { Logger } from 'pino';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import type { ReplicaWatch } from './replica-watch.js';
import type { WorkerLogs } from './worker-log.js';

const LOOK_INTERVAL_MS = 250;
const LOOKS_PER_ROUND = 4;

/** One timer for all replicas: notices adopted ones that ended, keeps logs small, ends drains that take too long. */
export class Upkeep {
  private timer: NodeJS.Timeout | undefined;
  private looks = 0;
  private looking = false;
  private stopped = false;

  constructor(
    private readonly watched: ReplicaWatch,
    private readonly logs: WorkerLogs,
    private readonly tidy: (functionId: FunctionId) => void,
    private readonly logger: Logger,
  ) {}

  start(): void {
    if (!this.stopped) this.timer ??= setInterval(() => void this.look(), LOOK_INTERVAL_MS).unref();
  }

  stop(): void {
    this.stopped = true;
    clearInterval(this.timer);
  }

  private async look(): Promise<void> {
    if (this.looking) return;
    this.looking = true;
    try {
      await this.watched.look();
      this.looks += 1;
      if (this.looks % LOOKS_PER_ROUND === 0) await this.round();
    } catch (error) {
      this.logger.warn({ err: error }, 'looking after workers failed');
    } finally {
      this.looking = false;
    }
  }

  private async round(): Promise<void> {
    for (const record of this.watched.records()) {
      await this.logs.maintain(record);
      if (record.drainUntil !== undefined && Date.now() >= record.drainUntil) this.tidy(record.functionId);
    }
  }
}
