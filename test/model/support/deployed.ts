import type { Handler } from '../../crash/support/handlers.js';
import type { SingleAnswer } from './single-answer.js';

/** A manager may not have heard yet of what has just ended; nor be done with what it learnt late. */
const NEWS_MS = 1_000;
/** For so long after the end of a worker there may be none that is ready. */
const REPLACING_MS = 15_000;

/** One function of one revision, and what happened to it. Moments are `performance.now()` milliseconds. */
export class Deployed {
  /** When its removal was asked for. */
  private leftAt = Infinity;
  /** When one of its workers or runners was killed. */
  private readonly kills: number[] = [];

  constructor(
    readonly id: string,
    readonly handler: Handler,
  ) {}

  leaves(): void {
    this.leftAt = performance.now();
  }

  loses(): void {
    this.kills.push(performance.now());
  }

  get killed(): number {
    return this.kills.length;
  }

  /** Whether a call that was sent at one moment and answered at another may have got this instead of its result. */
  explains({ status, code }: SingleAnswer, sentAt: number, answeredAt: number): boolean {
    const lost = (before: number) => this.kills.some((at) => at <= answeredAt && at >= sentAt - before);
    switch (code) {
      case 'function_not_found':
        return status === 404 && this.leftAt <= answeredAt;
      case 'function_not_runnable':
        return status === 409 && this.leftAt <= answeredAt;
      case 'worker_crashed':
        return status === 502 && lost(NEWS_MS);
      case 'function_not_ready':
        return status === 503 && lost(REPLACING_MS);
      case undefined:
      default:
        return false;
    }
  }

  /** Whether such an answer means that the handler was never called. */
  static neverRan({ code }: SingleAnswer): boolean {
    return code !== undefined && code !== 'worker_crashed';
  }
}
