"""Until it has a function: a process that answers for the worker and takes in one, once.

It is a process of its own so that the token it is shown never is in the memory that handler code
can read. Runners are forked from the supervisor, and the first one stands by already, set up but
for the function, which it hears of through a pipe.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import math
import os
import pickle
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, NoReturn

import uvloop

from .. import system
from ..protocol import PROTOCOL, Exit, Header, Notice
from ..runner.calls import Send
from ..runner.door import Door, may_look
from ..runner.exchange import Receive, Scope, content_length, read_body, read_rest, respond
from ..runner.results import Answer, refused, worker_misdirected
from ..runner.server import CONNECTION, Server
from ..settings import GENERIC_VARIABLES, Settings, SettingsError, read_settings
from .code import lay_code_out
from .reports import log
from .runner_process import RunnerProcess, fork_runner

_BODY_SECONDS = 10.0
# The last byte of what the rest of the worker is told: whether the standby runner has its function.
_HANDED, _NOT_HANDED = b"\1", b"\0"
_FLUSH_SECONDS = 0.2
# So long after its last word it is certain to have answered.
_END_SECONDS = 2.0
_READ_BYTES = 1024 * 1024
_WRONG_TOKEN = refused(403, "The token is wrong.")


class Received(NamedTuple):
    settings: Settings
    environment: dict[str, str]
    #: The first runner, where it has its function already.
    runner: RunnerProcess | None
    #: The worker was told to leave meanwhile.
    is_leaving: bool


def wait_for_function(
    settings: Settings,
    listener: socket.socket,
    signals: system.SignalFile,
    standby: Standby,
) -> Received | int:
    """What this worker is from now on, or the exit status of one that gets no function."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = Exit.NO_SPECIALISER
        try:
            os.close(ours)
            signals.release_in_child()
            system.die_with_parent()
            status = Specialiser(settings, dict(os.environ), listener, theirs, standby).run()
        finally:
            os._exit(status)
    os.close(theirs)
    standby.leave_handing_over()
    chunks: list[bytes] = []
    is_leaving, end = False, math.inf
    try:
        while True:
            left = None if end == math.inf else max(end - time.monotonic(), 0)
            ready, _, _ = select.select([ours, signals.fd], [], [], left)
            if time.monotonic() >= end:
                # The function has stopped it, and there is no other end.
                os.kill(pid, signal.SIGKILL)
            for number, sender in signals.read():
                # The runner may serve already: what handler code sends doesn't count.
                if number == signal.SIGCHLD or system.is_from_within(sender, standby.pids):
                    continue
                # It says first whether somebody was told that there is a function here now.
                os.kill(pid, signal.SIGTERM if number == signal.SIGTERM else signal.SIGKILL)
                is_leaving = True
            if ours in ready:
                chunk = os.read(ours, _READ_BYTES)
                if not chunk:
                    break
                chunks.append(chunk)
                end = time.monotonic() + _END_SECONDS
    finally:
        os.close(ours)
    received = b"".join(chunks)
    if found := unpack(received):
        # Reaped later: the end of a process takes longer than the start of the first runner.
        specialised, environment = found
        runner = standby.runner(has_function=received[-1:] == _HANDED)
        return Received(specialised, environment, runner, is_leaving)
    if is_leaving:
        return 0
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if status >= 0 else Exit.NO_SPECIALISER


class Specialiser:
    """Whatever comes of it, the first request with the right token is the last."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        listener: socket.socket,
        out: int,
        standby: Standby,
    ) -> None:
        assert settings.specialise_sha256 is not None
        self.settings = settings
        self.environ = environ
        self.listener = listener
        self.out = out
        self.standby = standby
        self.digest = bytes.fromhex(settings.specialise_sha256)
        self.taken = False
        self.handed_over = False
        self.door = Door(settings.call_sha256)
        self.lease: asyncio.TimerHandle | None = None

    def run(self) -> int:
        self.loop = uvloop.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.loop.add_signal_handler(signal.SIGTERM, self.on_term)
        self.server = Server(self, self.listener, 0)
        self.loop.run_until_complete(self.server.start())
        self.renew_lease()
        self.loop.run_forever()
        return Exit.NO_SPECIALISER

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        is_admitted = self.door.admits(scope, headers)
        match scope["method"], scope["path"]:
            case "GET", "/health" if is_admitted or (
                Header.LEASE not in headers and may_look(headers)
            ):
                if Header.LEASE in headers:
                    self.renew_lease()
                await respond(send, _generic_health(is_admitted))
            case "POST", "/specialise":
                await self.specialise(scope, headers, receive, send)
            case _ if not is_admitted:
                await self.door.turn_away(receive, send)
            case "POST", "/":
                await read_rest(receive)
                await respond(send, worker_misdirected())
            case _:
                await respond(send, refused(404, "Not Found"))

    async def specialise(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        if not self.is_token(headers.get(b"authorization", b"")):
            await self.door.turn_away(receive, send, _WRONG_TOKEN)
            return
        if self.taken:
            await read_rest(receive)
            await respond(send, refused(409, "The token has been used.", close=True))
            return
        self.taken = True
        scope["state"][CONNECTION].keep()
        self.renew_lease(_BODY_SECONDS, Exit.CUT_OFF)
        body = await read_body(receive, content_length(headers), self.settings.max_body_bytes)
        if type(body) is bytes:
            await self.hand_over(body, send)
        log("not_specialised", message="The request was cut off or too large.")
        if isinstance(body, Answer):
            await respond(send, body)
        await self.leave_when_flushed(Exit.CUT_OFF)

    async def hand_over(self, body: bytes, send: Send) -> None:
        """Does not return."""
        try:
            settings, environment = specialised_settings(body, self.environ)
        except BodyRefused as error:
            log("not_specialised", message=str(error))
            await respond(send, refused(422, str(error), close=True))
            await self.leave_when_flushed(Exit.UNUSABLE)
        # From here on connections wait in the backlog for the first runner.
        self.server.stop_accepting()
        try:
            settings = lay_code_out(settings)
        except OSError as error:
            log("not_specialised", message=f"The code can't be laid out: {error}")
            await respond(send, refused(500, "There is no place for the code.", close=True))
            await self.leave_when_flushed(Exit.NO_PLACE)
        given = pack(settings, environment)
        self.handed_over = True
        # It serves from here on, and the rest of the worker has to hear of it, however late.
        if self.lease is not None:
            self.lease.cancel()
        # The rest of the worker hears of it first, and acts on it when this process has ended: the
        # function may end it as soon as its file runs in the standby runner.
        with open(self.out, "wb", closefd=False) as pipe:
            pipe.write(given + _HANDED)
            pipe.flush()
            if not self.standby.hand_over(given):
                pipe.write(_NOT_HANDED)
        await respond(send, Answer(202, b'{"status":"specialised"}', close=True))
        await self.flush()
        self.leave(0)

    def on_term(self) -> None:
        # Otherwise it leaves by itself, when it has told the rest of the worker.
        if not self.handed_over:
            self.leave(0)

    def is_token(self, authorization: bytes) -> bool:
        scheme, _, token = authorization.partition(b" ")
        right = hmac.compare_digest(hashlib.sha256(token).digest(), self.digest)
        return right and scheme.lower() == b"bearer"

    def renew_lease(self, seconds: float | None = None, status: int = Exit.DONE) -> None:
        """A worker that nobody asks after has lost its manager. One that was taken keeps its own
        deadline."""
        if self.taken and seconds is None:
            return
        if self.lease is not None:
            self.lease.cancel()
        if seconds is None and self.settings.lease_ms is not None:
            seconds = self.settings.lease_ms / 1000
        if seconds is not None:
            self.lease = self.loop.call_later(seconds, self.leave, status)

    async def leave_when_flushed(self, status: int) -> NoReturn:
        await self.flush()
        self.leave(status)

    async def flush(self) -> None:
        self.server.close_idle_connections()
        end = self.loop.time() + _FLUSH_SECONDS
        while self.server.connections and self.loop.time() < end:
            await asyncio.sleep(0)

    def leave(self, status: int) -> NoReturn:
        os._exit(status)


def _generic_health(with_details: bool) -> Answer:
    document: dict[str, Any] = {"status": "generic", "timestamp": datetime.now(UTC).isoformat()}
    if with_details:
        document["worker"] = {"protocol": PROTOCOL}
    return Answer(503, json.dumps(document).encode())


# The first runner


class Standby:
    def __init__(
        self, settings: Settings, listener: socket.socket, release_in_child: Callable[[], None]
    ) -> None:
        self.notice = Notice.shared()
        theirs, self._ours = os.pipe()

        def release() -> None:
            # Or it would wait for ever for a worker that is gone.
            os.close(self._ours)
            release_in_child()

        self._runner: RunnerProcess | None = None
        try:
            self._runner = fork_runner(
                settings, 1, listener, self.notice, release, lambda: take_over(theirs)
            )
        except OSError:
            pass  # Too many processes for now; there may be room when it is needed.
        finally:
            os.close(theirs)

    def hand_over(self, given: bytes) -> bool:
        """What `take_over` takes; false when it is gone."""
        try:
            with open(self._ours, "wb") as pipe:
                pipe.write(given)
        except OSError:
            return False
        return True

    @property
    def pids(self) -> set[int]:
        return set() if self._runner is None else {self._runner.pid}

    def leave_handing_over(self) -> None:
        """To a fork of this process: when that is gone, the runner need not wait any more."""
        os.close(self._ours)

    def runner(self, *, has_function: bool) -> RunnerProcess | None:
        """None when it is gone: another can be forked in its place."""
        runner = self._runner
        if runner is not None and has_function:
            runner.started = time.monotonic()
            return runner
        if runner is not None:
            runner.forget()
        return None


def take_over(descriptor: int) -> Settings:
    """In the runner: waits for the function, and takes on its environment."""
    with open(descriptor, "rb") as pipe:
        given = pipe.read()
    found = unpack(given)
    if found is None:
        # Not by an exit of its own: that would say that the function can't be loaded.
        os.kill(os.getpid(), signal.SIGKILL)
        raise SystemExit
    settings, environment = found
    take_on(environment)
    return settings


def pack(settings: Settings, environment: dict[str, str]) -> bytes:
    return pickle.dumps((settings, environment))


def unpack(given: bytes) -> tuple[Settings, dict[str, str]] | None:
    """None when it is not whole: whoever wrote it has ended."""
    try:
        found: Any = pickle.loads(given)
    except (EOFError, pickle.UnpicklingError):
        return None
    return found


# The body of the request


class BodyRefused(ValueError):  # noqa: N818 - named for what happened
    """The body can't be used; the message says why."""


def specialised_settings(
    body: bytes, environ: Mapping[str, str]
) -> tuple[Settings, dict[str, str]]:
    """The settings and the whole environment of the function's worker. Raises BodyRefused."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if type(document) is not dict:
        raise BodyRefused("The body must be a JSON object.")
    given = document.get("environment", {})
    if type(given) is not dict or not all(map(_is_variable, given.items())):
        raise BodyRefused('"environment" must be an object of strings.')
    environment = {
        name: value for name, value in environ.items() if name not in GENERIC_VARIABLES
    } | given
    try:
        settings = read_settings(environment)
    except SettingsError as error:
        raise BodyRefused(str(error)) from None
    return replace(settings, code=_code_in(document)), environment


def _is_variable(item: tuple[str, object]) -> bool:
    name, value = item
    if type(value) is not str or not name or name in GENERIC_VARIABLES:
        return False
    text = name + value
    # Lone surrogates other than those that stand for undecodable bytes can't be encoded.
    with contextlib.suppress(UnicodeError):
        os.fsencode(text)
        return "\0" not in text and "=" not in name
    return False


def _code_in(document: dict[str, object]) -> bytes | None:
    code = document.get("code")
    if code is None:
        return None
    if type(code) is str:
        with contextlib.suppress(binascii.Error, ValueError):
            return base64.b64decode(code, validate=True)
    raise BodyRefused('"code" must be the file in base64.')


def take_on(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
