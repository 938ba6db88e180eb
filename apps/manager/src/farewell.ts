import type { RequestListener, ServerResponse } from 'node:http';

/**
 * Sends clients that keep their connections elsewhere before the connections are closed: a request that is sent into a
 * closing one is lost, and many clients don't repeat a POST. Every answer from the farewell on says "Connection: close".
 */
export class Farewell {
  private readonly open = new Set<ServerResponse>();
  private said = false;

  /** The same listener, with its answers known. */
  over(listener: RequestListener): RequestListener {
    return (request, response): void => {
      if (this.said) response.setHeader('Connection', 'close');
      else {
        this.open.add(response);
        response.once('close', () => this.open.delete(response));
      }
      listener(request, response);
    };
  }

  say(): void {
    this.said = true;
    for (const response of this.open) if (!response.headersSent) response.setHeader('Connection', 'close');
    this.open.clear();
  }
}
