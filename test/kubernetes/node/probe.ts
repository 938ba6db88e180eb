import { get } from 'node:http';
import { connect } from 'node:net';
import type { V1Probe } from '@kubernetes/client-node';

/** One try of a probe; answers whether the container is well. */
export type Asking = (timeoutMs: number) => Promise<boolean>;

/** Asks again and again, and reports when enough answers in a row were of one kind. */
export class Prober {
  private timer: NodeJS.Timeout | undefined;
  private streak = { ok: true, count: 0 };
  private stopped = false;
  private readonly spec: V1Probe;
  private readonly asking: Asking;
  private readonly onResult: (ok: boolean) => void;

  constructor(spec: V1Probe, asking: Asking, onResult: (ok: boolean) => void) {
    this.spec = spec;
    this.asking = asking;
    this.onResult = onResult;
    this.timer = setTimeout(() => this.ask(), (spec.initialDelaySeconds ?? 0) * 1000);
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
  }

  private ask(): void {
    const began = Date.now();
    void this.asking((this.spec.timeoutSeconds ?? 1) * 1000).then((ok) => {
      if (this.stopped) return;
      this.count(ok);
      const pause = Math.max(0, (this.spec.periodSeconds ?? 10) * 1000 - (Date.now() - began));
      if (!this.stopped) this.timer = setTimeout(() => this.ask(), pause);
    });
  }

  private count(ok: boolean): void {
    this.streak = this.streak.ok === ok ? { ok, count: this.streak.count + 1 } : { ok, count: 1 };
    const { successThreshold = 1, failureThreshold = 3 } = this.spec;
    if (this.streak.count >= (ok ? successThreshold : failureThreshold)) this.onResult(ok);
  }
}

export function overHttp(url: string): Asking {
  return (timeoutMs) => answersWell(url, timeoutMs);
}

/** Well is whoever takes the connection. */
export function overTcp(host: string, port: number): Asking {
  return (timeout) =>
    new Promise((resolve) => {
      const socket = connect({ host, port, timeout });
      const end = (ok: boolean) => {
        socket.destroy();
        resolve(ok);
      };
      socket.once('connect', () => end(true));
      socket.once('timeout', () => end(false));
      socket.once('error', () => end(false));
    });
}

function answersWell(url: string, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get(
      url,
      { agent: false, headers: { 'user-agent': 'kube-probe/1.36' }, timeout: timeoutMs },
      (answer) => {
        answer.resume();
        const { statusCode = 0 } = answer;
        resolve(statusCode >= 200 && statusCode < 400);
      },
    );
    request.once('timeout', () => request.destroy(new Error('timeout')));
    request.once('error', () => resolve(false));
  });
}
