/** What a worker says instead of its answers, whoever asks. */
export type Saying = 'switching-protocols' | 'interim-answers' | 'garbage' | 'one-byte-a-second';

const BYTES: Record<Saying, string> = {
  'switching-protocols': 'b"HTTP/1.1 101 Switching Protocols\\r\\nConnection: upgrade\\r\\nUpgrade: x\\r\\n\\r\\n"',
  'interim-answers': 'b"HTTP/1.1 103 Early Hints\\r\\nLink: <x>\\r\\n\\r\\n" * 20000',
  garbage: 'bytes(range(256)) * 64',
  'one-byte-a-second': 'b"H"',
};

const TAKE_LISTENER = `def take_listener():
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
`;

/** A handler whose file takes its worker's listening socket: it, and not the worker, answers whoever connects. */
export function takingOver(saying: Saying): string {
  return `import os, socket, threading, time

SAYS = ${BYTES[saying]}
PAUSE = ${saying === 'one-byte-a-second' ? '1' : '0.01'}

${TAKE_LISTENER}
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

/** The same, but it is healthy, and answers calls with what they ask for: a name and a number of MiB. */
export const ANSWERING = `import http.server, json, os, socket, threading

PIECE = 65536

${TAKE_LISTENER}
class Worker(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def begin(self, status, length, runner="1"):
        self.send_response(status)
        self.send_header("X-Faas-Runner", runner)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def say(self, status, text, runner="1"):
        self.begin(status, len(text), runner)
        self.wfile.write(text.encode())

    def fill(self, status, first, filling, last, size):
        times = size // len(filling)
        self.begin(status, len(first) + times * len(filling) + len(last))
        self.wfile.write(first.encode())
        each = PIECE // len(filling)
        while times > 0:
            self.wfile.write((filling * min(each, times)).encode())
            times -= each
        self.wfile.write(last.encode())

    def do_GET(self):
        told = {"protocol": 1, "runner": 1, "last_exit": None}
        self.say(200, json.dumps({"status": "ok", "timestamp": "2026-01-01T00:00:00Z", "worker": told}))

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        command, _, amount = json.loads(body)["payload"].partition(" ")
        size = int(amount or 0) * 1048576
        if command == "error":
            self.fill(400, '{"detail":"it failed","more":[', '{"9":0},', "0]}", size)
        elif command == "result":
            self.fill(200, '{"result":"', "x", '"}', size)
        elif command == "late":
            self.fill(200, '{"more":[', '{"9":0},', '0],"result":1}', size)
        elif command == "cut":
            self.begin(200, size + 100)
            self.wfile.write(('{"result":"' + "x" * (size // 2)).encode())
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif command == "runner":
            self.say(200, '{"result":1}', os.urandom(6000).hex())
        else:
            self.say(200, '{"result":"x"}')

def serve(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=Worker, args=(connection, ("", 0), None), daemon=True).start()

threading.Thread(target=serve, args=(take_listener(),), daemon=True).start()

def handle(payload):
    return payload
`;
