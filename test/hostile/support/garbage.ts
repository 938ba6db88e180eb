const PATIENCE_MS = 30_000;

/** Lets a Node process that runs with `--inspect` give back all that it can do without. */
export async function collectGarbage(port: number): Promise<void> {
  const targets = (await (await fetch(`http://127.0.0.1:${port}/json/list`)).json()) as {
    webSocketDebuggerUrl: string;
  }[];
  const socket = new WebSocket(targets[0]!.webSocketDebuggerUrl);
  try {
    await heard(socket, 'open');
    // Twice: what finalizers let go of in the first is gone after the second.
    for (const id of [1, 2]) {
      const answered = heard(socket, 'message');
      socket.send(JSON.stringify({ id, method: 'HeapProfiler.collectGarbage' }));
      await answered;
    }
  } finally {
    socket.close();
  }
}

function heard(socket: WebSocket, event: 'open' | 'message'): Promise<unknown> {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  return new Promise((resolve, reject) => {
    socket.addEventListener(event, resolve, { once: true, signal });
    socket.addEventListener('error', () => reject(new Error('The inspector went away.')), { once: true, signal });
    signal.addEventListener('abort', () => reject(new Error('The inspector did not answer in time.')));
  });
}
