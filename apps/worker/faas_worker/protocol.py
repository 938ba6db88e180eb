"""What a supervisor and its runners say to each other, and what both say to a manager."""

from __future__ import annotations

import ctypes
import mmap
from enum import IntEnum, StrEnum
from typing import Self

#: Of `GET /health`.
PROTOCOL = 1
#: Before the path of an HTTP call, so that it is for nobody who knows nothing of them: its method,
#: the path after this, query, headers and body are the handler's.
HTTP_PREFIX = "/.http"
#: One message of the channel between a supervisor and a runner holds at most so many bytes.
MESSAGE_BYTES = 65_536
#: Connections that wait while no runner accepts any.
BACKLOG = 2048


class Exit(IntEnum):
    """Statuses of the worker, and UNFIT of a runner that can't go on by its own judgement."""

    DONE = 0
    UNUSABLE = 64
    NOT_LOADABLE = 65
    UNFIT = 70
    NO_SPECIALISER = 70
    NO_PLACE = 71
    CUT_OFF = 75
    FAILED = 76


class Header:
    """Of requests, but for RUNNER, ANSWER and ERROR."""

    TOKEN = b"x-faas-token"
    FUNCTION = b"x-faas-function"
    TIMEOUT_MS = b"x-faas-timeout-ms"
    REQUEST_ID = b"x-request-id"
    LEASE = b"x-faas-lease"
    #: Of an HTTP call: the path that the function is mounted at.
    ROOT = b"x-faas-root"
    #: Of an HTTP call: its sender waits with the body until somebody reads it.
    HOLD = b"x-faas-hold"
    #: Of an HTTP call: the largest body that may be a payload.
    PAYLOAD_BYTES = b"x-faas-payload-bytes"
    #: How often the call has been tried, with this time.
    ATTEMPT = b"x-faas-attempt"
    RUNNER = "x-faas-runner"
    #: Of answers: it is the handler's own answer to an HTTP call.
    ANSWER = b"x-faas-answer"
    #: Of answers to HEAD, which have no body to say it: the code of the worker's own error.
    ERROR = b"x-faas-error"


class Kind(StrEnum):
    """What a handler is called with."""

    #: One parameter.
    PAYLOAD = "payload"
    #: Two: the payload and what there is to know of the call.
    CONTEXT = "context"
    ASGI = "asgi"
    WSGI = "wsgi"
    #: As other platforms call them; only where they are named.
    LAMBDA = "lambda"
    OPENFAAS = "openfaas"
    FUNCTIONS_FRAMEWORK = "functions-framework"
    KNATIVE = "knative"


#: It is found by the signature.
AUTO = "auto"
KINDS = (AUTO, *Kind)


#: More than any sensible handler runs at once; they are ended before they fill the machine.
MAX_PROCESSES = 64
#: Longer than a manager keeps an idle connection: nothing can be on its way when it is closed.
LINGER_SECONDS = 5.0


class Order(StrEnum):
    """What a supervisor tells a runner."""

    SERVE = "serve"
    RETIRE = "retire"
    LINGER = "linger"
    DRAIN = "drain"


class News(StrEnum):
    """What a runner tells its supervisor. Handler code can say the same in its place."""

    LOADED = "loaded"
    #: With the failure as JSON.
    NOT_LOADABLE = "not loadable"
    #: With one of `Reason`.
    RETIRES = "retires"
    AWAKE = "awake"
    #: Its handler makes processes.
    FORKS = "forks"


class Reason(StrEnum):
    """Why a runner takes no new calls."""

    OVERDUE = "A call ran past its time limit and could not be ended."
    ABANDONED = "Calls whose callers had gone took up its threads."
    DAMAGED = "Its handler changed what it runs on."
    THREADS = "Its handler started too many threads."
    PROCESSES = "Its handler left too many processes behind."
    DESCRIPTORS = "Its handler kept nearly all of the file descriptors there may be."
    FILES = "Its handler filled a temporary folder."
    SHARED_MEMORY = (
        "Its handler kept much memory outside of its process (temporary files, shared memory), and"
        " little is left."
    )


#: What all runners share: the next one starts when the former has ended, where that ends in time.
SHARED = frozenset({Reason.FILES, Reason.SHARED_MEMORY, Reason.THREADS})
#: Another worker may do better.
OF_THE_WORKER = frozenset({Reason.FILES, Reason.SHARED_MEMORY, Reason.DESCRIPTORS})


def pack(name: Order | News, detail: str = "") -> bytes:
    return f"{name.name} {detail}".encode("utf-8", "replace")


def unpack_order(message: bytes) -> Order | None:
    return Order.__members__.get(message.decode("ascii", "replace").partition(" ")[0])


def unpack_news(message: bytes) -> tuple[News | None, str]:
    name, _, detail = message.decode("utf-8", "replace").partition(" ")
    return News.__members__.get(name), detail


class _Shared(ctypes.Structure):
    @classmethod
    def shared(cls) -> Self:
        """In memory that the processes forked from this one have, too."""
        return cls.from_buffer(mmap.mmap(-1, mmap.PAGESIZE))


class Heartbeat(_Shared):
    """One runner's signs of life, in memory that it shares with its supervisor: written without a
    system call, read without asking. Handler code could overwrite it, so the supervisor bounds
    whatever it reads here. Times are CLOCK_MONOTONIC nanoseconds."""

    beat_ns: int
    in_flight: int
    deadline_ns: int
    good: int
    is_resting: int
    has_begun: int

    _fields_ = (
        ("beat_ns", ctypes.c_uint64),
        ("in_flight", ctypes.c_uint64),
        #: When the last of the calls in flight must have ended.
        ("deadline_ns", ctypes.c_uint64),
        #: Calls that had a result.
        ("good", ctypes.c_uint64),
        #: Beats slowly: nobody has called it for a while.
        ("is_resting", ctypes.c_uint64),
        #: To run the function's file.
        ("has_begun", ctypes.c_uint64),
    )


class Notice(_Shared):
    """How the last runner ended, as JSON, for every runner to tell."""

    last_exit: bytes

    _fields_ = (("last_exit", ctypes.c_char * 4000),)
