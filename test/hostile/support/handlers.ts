/** What a worker says instead of its answers, whoever asks. */
export type Saying = 'switching-protocols' | 'interim-answers' | 'garbage' | 'one-byte-a-second';

const BYTES: Record<Saying, string> = {
  'switching-protocols': 'b"HTTP/1.1 101 Switching Protocols\\r\\nConnection: upgrade\\r\\nUpgrade: x\\r\\n\\r\\n"',
  'interim-answers': 'b"HTTP/1.1 103 Early Hints\\r\\nLink: <x>\\r\\n\\r\\n" * 20000',
  garbage: 'bytes(range(256)) * 64',
  'one-byte-a-second': 'b"H"',
};

/** A handler whose file takes its worker's listening socket: it, and not the worker, answers whoever connects. */
export function takingOver(saying: Saying): string {
  return `import os, socket, threading, time

SAYS = ${BYTES[saying]}
PAUSE = ${saying === 'one-byte-a-second' ? '1' : '0.01'}

def take_listener():
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            found = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        if found.family != socket.AF_NETLINK and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            nobody = socket.socket(found.family, socket.SOCK_STREAM)
            if found.family == socket.AF_UNIX:
                nobody.bind("\\0" + os.urandom(8).hex())
            nobody.listen()
            os.dup2(nobody.fileno(), fd)
            found.setblocking(True)
            return found
        found.close()
    raise RuntimeError("there is no listening socket")

def answer(connection):
    try:
        while True:
            connection.sendall(SAYS)
            time.sleep(PAUSE)
    except OSError:
        connection.close()

def serve(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()

threading.Thread(target=serve, args=(take_listener(),), daemon=True).start()

def handle(payload):
    return payload
`;
}

/** Answers as many bytes as it is told, or raises with them. */
export const LARGE = `def handle(payload):
    command, _, amount = payload.partition(" ")
    text = '{"9":0},' * (int(amount) // 8)
    if command == "raise":
        raise ValueError(text)
    return text
`;
