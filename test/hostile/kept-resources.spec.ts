import { expect, it, vi } from 'vitest';
import type { FunctionDto } from '../client/index.js';
import { describeOnContainers, describeOnEachLocalEngine } from '../support/engines.js';
import { ECHO, OBEDIENT } from '../support/handlers.js';
import { Stage } from '../support/stage.js';

const RECOVERY_MS = 1_000;
const TRIES = 5;

/** Keeps what it is told to; "good" needs some of everything, "look" tells what is there. */
const KEEPER = `import ctypes, os, tempfile
from contextlib import suppress

LIBC = ctypes.CDLL(None)
LIBC.shmat.restype = ctypes.c_void_p
KEPT = []
CODE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

def fill(folder, mib):
    with suppress(OSError), open(os.path.join(folder, "kept"), "wb", buffering=0) as file:
        for _ in range(mib):
            assert file.write(bytes(1 << 20)) == 1 << 20

def objects():
    count = 0
    for kind in "shm", "sem", "msg":
        header, *rows = open(f"/proc/sysvipc/{kind}").read().splitlines()
        column = header.split().index("cuid")
        count += sum(row.split()[column] == str(os.geteuid()) for row in rows)
    return count

def own(folder):
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.stat(follow_symlinks=False).st_uid == os.geteuid())

def good():
    for folder in tempfile.gettempdir(), "/dev/shm":
        path = os.path.join(folder, "good")
        with open(path, "wb") as file:
            file.write(bytes(1 << 20))
        os.remove(path)
    spare = [os.dup(0) for _ in range(64)]
    for fd in spare:
        os.close(fd)
    assert bytearray(32 << 20)
    return "good"

def handle(payload):
    command, _, argument = payload.partition(" ")
    if command == "good":
        return good()
    if command == "look":
        return [objects(), own(tempfile.gettempdir()), own("/dev/shm")]
    if command == "exit":
        os._exit(3)
    if command == "shm":
        size = int(argument) << 20
        ctypes.memset(LIBC.shmat(LIBC.shmget(0, ctypes.c_size_t(size), 0o1600), None, 0), 1, size)
    if command == "sem":
        for _ in range(500):
            LIBC.semget(0, 10, 0o1600)
            LIBC.msgget(0, 0o1600)
    if command == "descriptors":
        with suppress(OSError):
            while True:
                KEPT.append(os.dup(0))
        if argument == "raise":
            raise OSError("no more")
    if command == "tmp":
        fill(tempfile.gettempdir(), int(argument))
    if command == "dev-shm":
        fill("/dev/shm", int(argument))
    if command == "code":
        fill(CODE, int(argument))
    return "done"
`;

function suite(stage: Stage) {
  let keeper: FunctionDto;
  let other: FunctionDto;
  const ask = async (payload: string) => {
    keeper ??= await stage.manager.add(KEEPER, { timeoutMs: 20_000 });
    other ??= await stage.manager.add(ECHO);
    return stage.manager.call(keeper.id, payload);
  };

  /** The next good call is quick: the best of several, for the machine may be busy. */
  const recoversFrom = async (attack: string) => {
    await ask('good');
    const times: number[] = [];
    while (times.length < TRIES && !times.some((time) => time <= RECOVERY_MS)) {
      await ask(attack);
      const began = performance.now();
      const isGood = (await ask('good')).text === '{"result":"good"}';
      times.push(isGood ? performance.now() - began : Infinity);
      expect((await stage.manager.call(other.id, 'other')).text).toBe('{"result":"other"}');
    }
    expect(Math.min(...times)).toBeLessThanOrEqual(RECOVERY_MS);
  };

  /** Unless the next process was there before its end, which happens where the machine is busy. */
  const leavesNothing = async () => {
    await vi.waitFor(
      async () => {
        await ask('exit');
        expect((await ask('look')).text).toBe('{"result":[0,[],[]]}');
      },
      { timeout: 10_000 },
    );
  };
  return { ask, recoversFrom, leavesNothing };
}

describeOnEachLocalEngine('a handler that keeps what later calls need', (engine) => {
  const stage = Stage.on(engine, { WORKER_MEMORY_MIB: '256' });
  const { recoversFrom, leavesNothing } = suite(stage);

  it.each(['shm 212', 'sem', 'descriptors', 'tmp 64', 'dev-shm 64'])(
    'costs its own process, with all that it left (%s)',
    async (attack) => {
      await recoversFrom(attack);
      await leavesNothing();
    },
  );
});

describeOnEachLocalEngine('a worker each of whose calls keeps all descriptors and fails', (engine) => {
  const stage = Stage.on(engine);

  it('is replaced, and the status of its function says why', async () => {
    const { id } = await stage.manager.add(KEEPER, { timeoutMs: 20_000 });
    await isReplaced(stage, id, 'descriptors raise', /Ended after 5 failures in a row: .*descriptors/);
  });
});

describeOnContainers('a handler that fills the folder of its code', (engine) => {
  const stage = Stage.on(engine, { WORKER_MEMORY_MIB: '512', WARM_POOL_SIZE: '1' });
  const { recoversFrom, leavesNothing } = suite(stage);

  it('costs its own process, with all that it left', async () => {
    await recoversFrom('code 256');
    await leavesNothing();
  });
});

describeOnContainers('a worker whose calls run out of memory again and again', (engine) => {
  const stage = Stage.on(engine, { WORKER_MEMORY_MIB: '96' });

  it('is replaced, and the status of its function says why', async () => {
    const { id } = await stage.manager.add(OBEDIENT);
    await isReplaced(stage, id, 'allocate 300', /Ended after 5 failures in a row: .*memory/, 'out_of_memory');
  });
});

async function isReplaced(stage: Stage, id: string, attack: string, why: RegExp, code = 'worker_crashed') {
  await vi.waitFor(
    async () => {
      expect((await stage.manager.call(id, attack)).status).toBeGreaterThanOrEqual(500);
      expect((await stage.manager.send(`/functions/${id}`)).json()).toMatchObject({
        last_error: { code, message: expect.stringMatching(why) as string },
      });
    },
    // Each failure costs a worker some seconds, and the kernel may end all of it once.
    { timeout: 120_000 },
  );
  await vi.waitFor(async () => expect((await stage.manager.call(id, 'good')).status).toBe(200), { timeout: 40_000 });
}
