import type { LimitsConfig } from '#libs/config/config.js';
import { LIMITS_CONFIG } from '#libs/config/config.module.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Inject, Injectable } from '@nestjs/common';
import { TooManyWebSockets } from './errors.js';
import { CLOSE } from './web-socket-frames.js';
import type { WebSocketTunnel } from './web-socket-tunnel.js';

/** The WebSockets that are open or being opened, of each function and in all. */
@Injectable()
export class WebSockets {
  private readonly places = new Map<FunctionId, number>();
  private readonly tunnels = new Set<WebSocketTunnel>();
  private all = 0;
  private isLeaving = false;

  constructor(
    @Inject(LIMITS_CONFIG)
    private readonly limits: Pick<LimitsConfig, 'webSockets' | 'webSocketsPerFunction'>,
  ) {}

  /** A place for one more, until it is disposed of. Throws {@link TooManyWebSockets}. */
  take(id: FunctionId): Disposable {
    const { webSockets, webSocketsPerFunction } = this.limits;
    const places = this.places.get(id) ?? 0;
    if (this.isLeaving || this.all >= webSockets) throw new TooManyWebSockets('manager_overloaded', webSockets);
    if (places >= webSocketsPerFunction) throw new TooManyWebSockets('function_overloaded', webSocketsPerFunction);
    this.places.set(id, places + 1);
    this.all += 1;
    return {
      [Symbol.dispose]: () => {
        const left = (this.places.get(id) ?? 1) - 1;
        if (left > 0) this.places.set(id, left);
        else this.places.delete(id);
        this.all -= 1;
      },
    };
  }

  /** Closes it when the manager leaves. */
  opened(tunnel: WebSocketTunnel): void {
    this.tunnels.add(tunnel);
    if (this.isLeaving) this.restart(tunnel);
  }

  closed(tunnel: WebSocketTunnel): void {
    this.tunnels.delete(tunnel);
  }

  /** Closes all: their clients come again, and get to another manager. No further one is opened. */
  leave(): void {
    this.isLeaving = true;
    for (const tunnel of [...this.tunnels]) this.restart(tunnel);
  }

  private restart(tunnel: WebSocketTunnel): void {
    tunnel.close(CLOSE.restarting, 'The manager is leaving.');
  }
}
