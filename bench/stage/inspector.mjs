const PATIENCE_MS = 30_000;
/** The spaces of V8's heap without those of compiled code: that grows with what has been run so far, up to a point. */
const DATA_BYTES = `process.getBuiltinModule('v8').getHeapSpaceStatistics()
  .filter(({ space_name: name }) => !/code|trusted|read_only/.test(name))
  .reduce((sum, space) => sum + space.space_used_size, 0)`;

/**
 * The data that a Node process that runs with `--inspect` still holds after everything it can do without was collected.
 */
export async function liveBytes(port) {
  const [{ webSocketDebuggerUrl }] = await (await fetch(`http://127.0.0.1:${port}/json/list`)).json();
  const socket = new WebSocket(webSocketDebuggerUrl);
  try {
    await heard(socket, 'open');
    // Twice: what finalizers let go of in the first is gone after the second.
    await ask(socket, 1, 'HeapProfiler.collectGarbage');
    await ask(socket, 2, 'HeapProfiler.collectGarbage');
    const { backingStorageSize = 0 } = await ask(socket, 3, 'Runtime.getHeapUsage');
    const { result } = await ask(socket, 4, 'Runtime.evaluate', { expression: DATA_BYTES });
    return result.value + backingStorageSize;
  } finally {
    socket.close();
  }
}

async function ask(socket, id, method, params = {}) {
  const answered = heard(socket, 'message');
  socket.send(JSON.stringify({ id, method, params }));
  const { result, error } = JSON.parse((await answered).data);
  if (error !== undefined) throw new Error(`${method}: ${error.message}`);
  return result;
}

function heard(socket, event) {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  return new Promise((resolve, reject) => {
    socket.addEventListener(event, resolve, { once: true, signal });
    socket.addEventListener('error', () => reject(new Error('The inspector went away.')), { once: true, signal });
    signal.addEventListener('abort', () => reject(new Error('The inspector did not answer in time.')));
  });
}
