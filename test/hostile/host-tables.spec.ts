import type { Stage } from '#libs/orchestrator/testing/contract.stage.js';
import type { Observed } from '#libs/orchestrator/workload.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NO_POOL } from '#libs/config/config.js';
import { dockerStage, endStage, python } from '../docker/support/docker-stage.js';
import { docker, POOL, testConfig, whyNoDocker, WORKER_IMAGE } from '../docker/support/docker-tests.js';

const HANDLER = `import asyncio
import concurrent.futures
import ctypes
import errno
import mmap
import multiprocessing
import os
import platform
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading

libc = ctypes.CDLL(None, use_errno=True)
ARM = platform.machine() == "aarch64"
NUMBERS = {
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "unshare": (272, 97),
    "mount": (165, 40),
    "setns": (308, 268),
}


def name_of(number):
    return errno.errorcode.get(number, str(number))


def attempt(action):
    try:
        action()
        return "allowed"
    except OSError as error:
        return name_of(error.errno)


def system_call(name):
    # All arguments 0: what is let through fails for another reason, or not at all.
    result = libc.syscall(NUMBERS[name][ARM], *[ctypes.c_long(0)] * 5)
    return "allowed" if result >= 0 else name_of(ctypes.get_errno())


def clone_of(flags):
    child = libc.syscall({True: 220, False: 56}[ARM], *[ctypes.c_long(value) for value in (flags, 0, 0, 0, 0)])
    if child == 0:
        os._exit(0)
    return "allowed" if child > 0 else name_of(ctypes.get_errno())


def of_32_bits():
    """socketcall(SYS_SOCKET, …) through the door for programs of 32 bits."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    # push rbx; mov eax, 102; mov ebx, 1; xor ecx, ecx; int 0x80; pop rbx; ret
    code.write(bytes.fromhex("53b866000000bb0100000031c9cd805bc3"))
    call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    child = os.fork()
    if child == 0:
        call()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def descriptors(count):
    held = []
    try:
        while len(held) < count:
            held.append(os.dup(1))
        return {"opened": len(held), "error": None}
    except OSError as error:
        return {"opened": len(held), "error": name_of(error.errno)}
    finally:
        for descriptor in held:
            os.close(descriptor)


def raised():
    resource.setrlimit(resource.RLIMIT_NOFILE, (100_000, 100_000))


def sockets(count):
    listener = socket.create_server(("127.0.0.1", 0), backlog=count)
    pairs = []
    for _ in range(count):
        client = socket.create_connection(listener.getsockname())
        pairs += [client, listener.accept()[0]]
    for one in [*pairs, listener]:
        one.close()
    return len(pairs)


async def streams():
    async def answer(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\\n")
        answered = await reader.readline()
        writer.close()
        return answered.decode().strip()


def square(number):
    return number * number


def ordinary():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        threads = list(pool.map(square, range(8)))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        processes = pool.map(square, range(8))
    child = os.fork()
    if child == 0:
        os._exit(7)
    forked = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    program = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True, check=True)
    with tempfile.NamedTemporaryFile(suffix=".sqlite") as file:
        database = sqlite3.connect(file.name)
        database.execute("create table t (n integer)")
        database.executemany("insert into t values (?)", [(n,) for n in range(10)])
        database.commit()
        total = database.execute("select sum(n) from t").fetchone()[0]
        database.close()
    left, right = socket.socketpair()
    left.sendall(b"x")
    return {
        "threads": threads,
        "processes": processes,
        "forked": forked,
        "program": program.stdout.strip(),
        "sqlite": total,
        "pair": right.recv(1).decode(),
        "names": bool(socket.getaddrinfo("localhost", 80)) and bool(socket.if_nameindex()),
        "memory": os.fstat(os.memfd_create("x")).st_size,
        "sockets": sockets(300),
        "streams": asyncio.run(streams()),
        "event": threading.Event().wait(0.01),
    }


def handle(payload: str):
    word, *rest = payload.split(" ")
    if word == "call":
        return {name: system_call(name) for name in rest}
    if word == "socket":
        return {n: attempt(lambda: socket.socket(int(n), socket.SOCK_STREAM).close()) for n in rest}
    if word == "pair":
        return attempt(lambda: socket.socketpair(int(rest[0])))
    if word == "namespace":
        return {"none": clone_of(signal.SIGCHLD), "new": clone_of(signal.SIGCHLD | 0x10000000)}
    if word == "32":
        return of_32_bits()
    if word == "open":
        return descriptors(int(rest[0]))
    if word == "limits":
        names = ("NOFILE", "CORE", "MEMLOCK", "MSGQUEUE", "SIGPENDING")
        return {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in names}
    if word == "raise":
        try:
            raised()
            return "allowed"
        except (OSError, ValueError) as error:
            return type(error).__name__
    return ordinary()
`;

const REFUSED = 'EPERM';
const SIGSYS = 31;

const reason = await whyNoDocker(WORKER_IMAGE);

const BIRTHS = [
  ['started with its function', NO_POOL],
  ['from the warm pool', POOL],
] as const;

describe.skipIf(reason !== undefined).each(BIRTHS)('a handler on Docker that wants the host’s own, %s', (_, pool) => {
  let stage: Stage;
  let seen: Observed;
  const call = (payload: string) => stage.call(seen.endpoints[0], payload);
  const ask = async (payload: string) => {
    const { status, body } = await call(payload);
    expect(status, JSON.stringify(body)).toBe(200);
    return (body as { result: unknown }).result;
  };

  beforeAll(async () => {
    stage = dockerStage(testConfig(), undefined, pool);
    const limits = { timeoutMs: 30_000, concurrency: 1, memoryMiB: 256, cpuMillis: 1_000, pids: 64 };
    seen = await stage.settleReady(await stage.manager(), stage.workload(python(HANDLER), { limits }));
  });
  afterAll(() => endStage(stage));

  it('gets no system call of those that lead into the kernel’s depths', async () => {
    const names = [
      'io_uring_setup',
      'keyctl',
      'add_key',
      'bpf',
      'userfaultfd',
      'perf_event_open',
      'ptrace',
      'process_vm_readv',
      'unshare',
      'mount',
      'setns',
    ];
    expect(await ask(`call ${names.join(' ')}`)).toEqual(Object.fromEntries(names.map((name) => [name, REFUSED])));
  });

  it('gets no socket to the hypervisor, to the kernel’s cryptography or to devices', async () => {
    // AF_VSOCK, AF_ALG, AF_PACKET, AF_CAN, AF_BLUETOOTH, AF_TIPC, AF_RDS
    const families = [40, 38, 17, 29, 31, 30, 21];
    expect(await ask(`socket ${families.join(' ')}`)).toEqual(Object.fromEntries(families.map((n) => [n, REFUSED])));
    expect(await ask('pair 40')).toBe(REFUSED);
    expect(await ask('socket 1 2')).toEqual({ 1: 'allowed', 2: 'allowed' });
  });

  it('gets no namespace of its own', async () => {
    expect(await ask('namespace')).toEqual({ none: 'allowed', new: REFUSED });
  });

  it.runIf(process.arch === 'x64')(
    'ends with its process when it calls the kernel as programs of 32 bits do',
    async () => {
      expect(await ask('32')).toBe(-SIGSYS);
    },
  );

  it('opens a few thousand descriptors and no more, and can’t raise its limits', async () => {
    const { opened, error } = (await ask('open 20000')) as { opened: number; error: string };
    expect(error).toBe('EMFILE');
    expect(opened).toBeGreaterThan(3_900);
    expect(opened).toBeLessThan(4_096);
    expect(await ask('raise')).toBe('ValueError');
    expect(await ask('limits')).toEqual({
      NOFILE: [4_096, 4_096],
      CORE: [0, 0],
      MEMLOCK: [65_536, 65_536],
      MSGQUEUE: [0, 0],
      SIGPENDING: [4_096, 4_096],
    });
    expect((await call('socket 1')).status).toBe(200);
  });

  it('still has all of what ordinary programs use', async () => {
    const squares = [0, 1, 4, 9, 16, 25, 36, 49];
    expect(await ask('ordinary')).toEqual({
      threads: squares,
      processes: squares,
      forked: 7,
      program: '42',
      sqlite: 45,
      pair: 'x',
      names: true,
      memory: 0,
      sockets: 600,
      streams: 'hello',
      event: false,
    });
  });
});

describe.skipIf(reason !== undefined)('WORKER_SECCOMP=engine', () => {
  it('leaves the filter of system calls to the engine', async () => {
    const stage = dockerStage(testConfig({ seccomp: 'engine' }));
    try {
      const seen = await stage.settleReady(await stage.manager(), stage.workload(python(HANDLER)));
      const { HostConfig: host } = await docker.getContainer(seen.primary).inspect();
      expect(host.SecurityOpt).toEqual(['no-new-privileges']);
      const { body } = await stage.call(seen.endpoints[0], 'call unshare mount');
      expect(body).toEqual({ result: { unshare: REFUSED, mount: REFUSED } });
    } finally {
      await endStage(stage);
    }
  });
});
