/**
 * Tells that nobody waits for the answer of a call any more. A call waits in one place at a time, so one listener is
 * enough: an AbortSignal for every call, which can have many, costs more than routing the call does.
 */
export class Cancellation {
  private cancelled = false;
  private listener: (() => void) | undefined;

  get isCancelled(): boolean {
    return this.cancelled;
  }

  cancel(): void {
    this.cancelled = true;
    const { listener } = this;
    this.listener = undefined;
    listener?.();
  }

  /** Sets the one listener, in place of the one before; `undefined` removes it. */
  onCancel(listener: (() => void) | undefined): void {
    this.listener = listener;
  }
}
