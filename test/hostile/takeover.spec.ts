import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { describeOnProcesses } from '../support/engines.js';
import { ECHO } from '../support/handlers.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';

const MANY = 16;
/** An upload takes less than a second where the machine has nothing else to do. */
const NORMAL_MS = 10_000;

/** Never loads, and answers in place of its worker whoever asks it; leaves a file in a folder when it has begun to. */
const takingOver = (answer: string, folder: string) => `import contextlib, os, select, socket, tempfile

def listener():
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found = socket.socket(fileno=os.dup(int(fd)))
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return found

ANSWER = ${JSON.stringify(answer)}.encode()
KEPT = []
taken = listener()
tempfile.mkstemp(dir=${JSON.stringify(folder)})
while True:
    select.select([taken], [], [])
    with contextlib.suppress(OSError):
        connection, _ = taken.accept()
        KEPT.append(connection)
        connection.setblocking(True)
        connection.recv(65536)
        connection.sendall(ANSWER)
`;
const SWITCHING = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: nothing\r\n\r\n';

describeOnProcesses('handler code that answers in place of its worker', (engine) => {
  const stage = Stage.on(engine, { ORPHAN_SWEEP_MS: '1000' });
  let begun: string;
  beforeAll(async () => {
    begun = await mkdtemp(join(tmpdir(), 'faas-taken-'));
    // Workers may have users of their own.
    await chmod(begun, 0o777);
  });
  afterAll(() => rm(begun, { recursive: true, force: true }));

  const names = async () => ((await stage.manager.send('/functions')).json() as { id: string }[]).map(({ id }) => id);

  it('keeps neither uploads, removals nor the manager itself', async () => {
    const { manager } = stage;
    const attack = upload(takingOver(SWITCHING, begun));
    const attacks = Array.from({ length: MANY }, () => manager.send('/functions', { method: 'POST', ...attack }));
    await vi.waitFor(async () => expect(await readdir(begun)).toHaveLength(MANY), 60_000);
    const victims = await names();
    expect(victims).toHaveLength(MANY);

    const began = performance.now();
    const honest = await manager.add(ECHO);
    expect(performance.now() - began).toBeLessThan(NORMAL_MS);
    expect((await manager.call(honest.id, 'hello')).json()).toEqual({ result: 'hello' });
    expect((await manager.send('/readyz')).status).toBe(200);

    const removals = await Promise.all(victims.map((id) => manager.remove(id)));
    expect(removals.map(({ status }) => status)).toEqual(removals.map(() => 204));
    for (const { status } of await Promise.all(attacks)) expect(status).toBe(409);
    expect(await names()).toEqual([honest.id]);
    await vi.waitFor(async () => expect(await stage.room.workers()).toHaveLength(1), 20_000);
  }, 120_000);

  it('does not keep a manager from leaving in the midst of it', async () => {
    const leaving = await stage.start({ DRAIN_TIMEOUT_MS: '1000' });
    const before = (await readdir(begun)).length;
    const attack = upload(takingOver(SWITCHING, begun));
    const attacks = Array.from({ length: MANY }, () =>
      leaving.send('/functions', { method: 'POST', ...attack }).catch((error: Error) => error),
    );
    await vi.waitFor(async () => expect(await readdir(begun)).toHaveLength(before + MANY), 60_000);
    const began = performance.now();
    await leaving.stop();
    expect(performance.now() - began).toBeLessThan(15_000);
    await Promise.all(attacks);
  }, 120_000);
});
