/**
 * Whoever waits for the answer of a call. It waits in one place at a time, so one listener is enough; an AbortSignal
 * for every call, which can have many, costs more than routing it does.
 */
export class Cancellation {
  private isGone = false;
  private onLeaving: (() => void) | undefined;

  get left(): boolean {
    return this.isGone;
  }

  /** The connection ended before its answer was whole. */
  leave(): void {
    this.isGone = true;
    const told = this.onLeaving;
    this.onLeaving = undefined;
    told?.();
  }

  /** Runs `act` when the caller leaves, in place of what was to run before; never, with `undefined`. */
  whenLeaving(act: (() => void) | undefined): void {
    this.onLeaving = act;
  }
}
