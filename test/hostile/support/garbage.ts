const PATIENCE_MS = 30_000;

/**
 * Lets a Node process that runs with `--inspect` give back all that it can do without, and tells how many bytes it
 * still holds, within its heap and outside.
 */
export async function heldAfterGarbage(port: number): Promise<number> {
  const targets = (await (await fetch(`http://127.0.0.1:${port}/json/list`)).json()) as {
    webSocketDebuggerUrl: string;
  }[];
  const socket = new WebSocket(targets[0]!.webSocketDebuggerUrl);
  const ask = async (method: string, params = {}) => {
    const answered = heard(socket, 'message');
    socket.send(JSON.stringify({ id: 1, method, params }));
    return JSON.parse(String(((await answered) as MessageEvent).data)) as { result: { result?: { value: number } } };
  };
  try {
    await heard(socket, 'open');
    // Twice: what finalizers let go of in the first is gone after the second.
    for (let time = 0; time < 2; time += 1) await ask('HeapProfiler.collectGarbage');
    const expression = '(({ heapUsed, external }) => heapUsed + external)(process.memoryUsage())';
    const { result } = await ask('Runtime.evaluate', { expression, returnByValue: true });
    return Number(result.result?.value);
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
