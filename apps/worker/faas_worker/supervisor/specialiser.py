"""Until it has a function: a process that answers for the worker and takes in one, once.

It is a process of its own so that the token it is shown never is in the memory that handler code
can read. The first runner stands by already, forked before anything can be asked of the worker.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import os
import pickle
import re
import select
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn

import uvloop

from .. import confidential, system
from ..protocol import HTTP_PREFIX, Exit, Header, Notice
from ..runner.app import health_answer
from ..runner.calls import Send
from ..runner.exchange import Receive, Scope, content_length, read_body, read_rest, respond
from ..runner.gate import Gate, may_look
from ..runner.results import Answer, refused, worker_misdirected
from ..runner.server import CONNECTION, Server
from ..settings import GENERIC_VARIABLES, Settings, SettingsError, read_settings
from .code import lay_code_out
from .output import relay
from .reports import OomCounter, log
from .runner_process import RunnerProcess, fork_runner

_BODY_SECONDS = 10.0
# For the packages of a function, where no folder has them.
_FETCH_SECONDS = 25.0
# What the end of a process and its supervisor's turn cost would hold up the first call.
_FLUSH_SECONDS = 0.05
# So long after its last word it is certain to have answered.
_END_SECONDS = 2.0
_READ_BYTES = 1024 * 1024
_SPECIALISED_ALONE = b'{"status":"specialised"}'
# So that its manager knows that it has not ignored them.
_SPECIALISED = b'{"status":"specialised","files":%d}'
_FILE_NAME = re.compile(r"(?!\.\.?$)[A-Za-z0-9._-]{1,128}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_WRONG_TOKEN = refused(403, "The token is wrong.")


class Received(NamedTuple):
    settings: Settings
    environment: dict[str, str]
    notice: Notice
    #: Counts from before the function was there.
    oom: OomCounter | None
    #: The first runner, which has its function already; None when it has ended.
    runner: RunnerProcess | None
    #: The worker was told to leave meanwhile.
    is_leaving: bool


def wait_for_function(
    settings: Settings, listener: socket.socket, signals: system.SignalFile
) -> Received | int:
    """What this worker is from now on, or the exit status of one that gets no function."""
    # The runner may serve, and leave orphans, before the supervisor looks after it.
    system.become_subreaper()
    notice = Notice.shared()
    standby: RunnerProcess | None = None
    # Where there are too many processes for now it is forked when it is needed.
    with contextlib.suppress(OSError):
        standby = fork_runner(
            settings, 1, listener, notice, signals.release_in_child, receive_function
        )
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = Exit.NO_SPECIALISER
        try:
            os.close(ours)
            if standby is not None:
                standby.forget()
            signals.release_in_child()
            system.die_with_parent()
            status = Specialiser(settings, dict(os.environ), listener, theirs).run()
        finally:
            os._exit(status)
    os.close(theirs)
    runners = set[int]() if standby is None else {standby.pid}
    given, found = bytearray(), None
    oom: OomCounter | None = None
    runner: RunnerProcess | None = None
    is_leaving, end = False, None
    while True:
        if end is not None and time.monotonic() >= end:
            # The function has stopped it: it could not end by itself.
            os.kill(pid, signal.SIGKILL)
        left = None if end is None else max(end - time.monotonic(), 0.01)
        # What its first call prints doesn't wait until this is over.
        outputs = [] if runner is None else [runner.output]
        sources = [stream.source for output in outputs for stream in output.readable]
        watched = [signals.fd, *([ours] if ours >= 0 else []), *sources]
        ready, _, _ = select.select(watched, [], [], left)
        if not set(sources).isdisjoint(ready):
            relay(outputs)
        for number, sender in signals.read():
            # The runner may serve already: what handler code sends doesn't count.
            if number == signal.SIGCHLD or system.is_from_within(sender, runners):
                continue
            # It says first whether somebody was told that there is a function here now.
            os.kill(pid, signal.SIGTERM if number == signal.SIGTERM else signal.SIGKILL)
            is_leaving = True
        if ours in ready:
            chunk = os.read(ours, _READ_BYTES)
            given += chunk
            if not chunk:
                os.close(ours)
                ours = -1
                # The first call may use up the memory before there is a supervisor.
                oom = OomCounter()
                # First: the runner tells by itself when it isn't whole.
                if given and standby is not None:
                    runner = hand_over(standby, given)
                found = unpack(given)
                if found is not None:
                    # Of what the runner prints.
                    confidential.hide(found[1], found[0].secrets_dir)
                end = time.monotonic() + _END_SECONDS
        if ours < 0:
            ended, wait_status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
    if found is not None:
        return Received(*found, notice, oom, runner, is_leaving)
    status = os.waitstatus_to_exitcode(wait_status)
    return 0 if is_leaving else status if status >= 0 else Exit.NO_SPECIALISER


def hand_over(standby: RunnerProcess, given: bytes | bytearray) -> RunnerProcess | None:
    """None when it has ended."""
    try:
        with os.fdopen(os.memfd_create("function"), "wb") as file:
            file.write(given)
            file.flush()
            socket.send_fds(standby.channel, [b"function"], [file.fileno()])
    except OSError:
        standby.forget()
        return None
    standby.started = time.monotonic()
    return standby


def receive_function(channel: socket.socket) -> Settings:
    """In the runner that stands by: waits for the function, and takes on its environment."""
    _, descriptors, _, _ = socket.recv_fds(channel, 64, 1)
    if not descriptors:
        # Not by an exit of its own: that would say that the function can't be loaded.
        os.kill(os.getpid(), signal.SIGKILL)
    with os.fdopen(descriptors[0], "rb") as file:
        file.seek(0)
        settings, environment = pickle.load(file)
    take_on(environment)
    return settings


def unpack(given: bytes | bytearray) -> tuple[Settings, dict[str, str]] | None:
    """None when it is not whole: whoever wrote it has ended."""
    with contextlib.suppress(EOFError, pickle.UnpicklingError):
        return pickle.loads(given)
    return None


def take_on(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()


class Specialiser:
    """Whatever comes of it, the first request with the right token is the last."""

    def __init__(
        self, settings: Settings, environ: Mapping[str, str], listener: socket.socket, out: int
    ) -> None:
        assert settings.specialise_sha256 is not None
        self.settings = settings
        self.environ = environ
        self.out = out
        self.digest = bytes.fromhex(settings.specialise_sha256)
        self.taken = False
        self.handed_over = False
        self.gate = Gate(settings.call_sha256)
        self.lease: asyncio.TimerHandle | None = None
        self.server = Server(self, listener, 0)

    def run(self) -> int:
        self.loop = uvloop.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.loop.add_signal_handler(signal.SIGTERM, self.on_term)
        # In one run of the loop: a signal that comes between two of them is lost.
        self.loop.run_until_complete(self.serve())
        return Exit.NO_SPECIALISER

    async def serve(self) -> None:
        await self.server.start()
        self.renew_lease()
        # So that the first request finds what reads it in memory of this process's own.
        first = document_of(b'{"environment": {}, "code": ""}')
        pickle.dumps(specialised_settings(first, self.environ))
        await asyncio.Event().wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        is_admitted = self.gate.admits(scope, headers)
        match scope["method"], scope["path"]:
            case "GET" | "HEAD", "/health" if is_admitted or (
                Header.LEASE not in headers and may_look(headers)
            ):
                if Header.LEASE in headers:
                    self.renew_lease()
                await respond(send, health_answer(503, "generic", {} if is_admitted else None))
            case "POST", "/specialise":
                await self.specialise(scope, headers, receive, send)
            case _ if not is_admitted:
                await self.gate.turn_away(receive, send)
            case method, path if (method, path) == ("POST", "/") or path.startswith(HTTP_PREFIX):
                await read_rest(receive)
                await respond(send, worker_misdirected())
            case _:
                await respond(send, refused(404, "Not Found"))

    async def specialise(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        if not self.is_token(headers.get(b"authorization", b"")):
            return await self.gate.turn_away(receive, send, _WRONG_TOKEN)
        if self.taken:
            await read_rest(receive)
            return await respond(send, refused(409, "The token has been used.", close=True))
        self.taken = True
        scope["state"][CONNECTION].keep()
        self.renew_lease(_BODY_SECONDS, Exit.CUT_OFF)
        body = await read_body(receive, content_length(headers), self.settings.max_body_bytes)
        if isinstance(body, bytes):
            status, answer = await self.take(body)
        else:
            log("not_specialised", message="The request was cut off or too large.")
            status, answer = Exit.CUT_OFF, body
        if answer is not None:
            await respond(send, answer, close=True)
        self.server.close_idle_connections()
        await asyncio.sleep(_FLUSH_SECONDS)
        return self.leave(status)

    async def take(self, body: bytes) -> tuple[int, Answer]:
        try:
            document = document_of(body)
            await self.fetch_layer(document)
            settings, environment, files = specialised_settings(document, self.environ)
        except BodyRefused as error:
            log("not_specialised", message=str(error))
            return Exit.UNUSABLE, refused(422, str(error))
        # From here on connections wait in the backlog for the first runner.
        self.server.stop_accepting()
        try:
            settings = lay_code_out(settings)
            if files:
                confidential.lay_files_out(settings.secrets_dir, files)
        except OSError as error:
            log("not_specialised", message=f"The files can't be laid out: {error}")
            return Exit.NO_PLACE, refused(500, "There is no place for the files.")
        self.handed_over = True
        if self.lease is not None:
            self.lease.cancel()
        # The function may end this process as soon as its file runs in the standby runner.
        with open(self.out, "wb") as pipe:
            pickle.dump((settings, environment), pipe)
        return Exit.DONE, Answer(202, _SPECIALISED % len(files) if files else _SPECIALISED_ALONE)

    async def fetch_layer(self, document: dict[str, Any]) -> None:
        """Has the function's packages here, and its environment say where, unless it names a folder
        that is there."""
        given = document.get("layer")
        if given is None or is_folder(document.get("environment"), "FAAS_LAYER"):
            return
        # Few workers ever need it, and it takes as long to load as all else.
        from ..fetched_layer import Archive, NotFetched, fetch

        try:
            archive, name = Archive.of(given), given["digest"]
            if not _DIGEST.fullmatch(name):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise BodyRefused('"layer" must say where its archive is, and what it is.') from None
        folder = os.path.join(self.settings.layers_dir, name)
        self.renew_lease(_FETCH_SECONDS + _BODY_SECONDS, Exit.CUT_OFF)
        try:
            await asyncio.to_thread(fetch, archive, folder, _FETCH_SECONDS)
        except NotFetched as error:
            raise BodyRefused(str(error)) from None
        environment = document.setdefault("environment", {})
        if type(environment) is dict:
            environment["FAAS_LAYER"] = folder

    def on_term(self) -> None:
        # Otherwise it leaves by itself, when it has told the rest of the worker.
        if not self.handed_over:
            self.leave(Exit.DONE)

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

    def leave(self, status: int) -> NoReturn:
        os._exit(status)


# The body of the request


class BodyRefused(ValueError):  # noqa: N818 - named for what happened
    """The body can't be used; the message says why."""


def is_folder(environment: Any, name: str) -> bool:
    found = environment.get(name) if type(environment) is dict else None
    return type(found) is str and "\0" not in found and os.path.isdir(found)


def document_of(body: bytes) -> dict[str, Any]:
    """Raises BodyRefused."""
    document: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(body)
    if type(document) is not dict:
        raise BodyRefused("The body must be a JSON object.")
    return document


def specialised_settings(
    document: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[Settings, dict[str, str], dict[str, bytes]]:
    """The settings, the whole environment and the secrets' files of the function's worker. Raises
    BodyRefused."""
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
    code = document.get("code")
    try:
        code = None if code is None else base64.b64decode(code, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise BodyRefused('"code" must be the file in base64.') from None
    files = document.get("files", {})
    if type(files) is not dict or not all(map(_is_file, files.items())):
        raise BodyRefused('"files" must be an object of texts, by the name of each file.')
    contents = {name: text.encode() for name, text in files.items()}
    return replace(settings, code=code), environment, contents


def _is_file(item: tuple[str, object]) -> bool:
    name, text = item
    if type(text) is not str or not _FILE_NAME.fullmatch(name):
        return False
    with contextlib.suppress(UnicodeError):
        return text.encode() is not None
    return False


def _is_variable(item: tuple[str, object]) -> bool:
    name, value = item
    if type(value) is not str or not name or name in GENERIC_VARIABLES or "=" in name:
        return False
    # Lone surrogates other than those that stand for undecodable bytes can't be encoded.
    with contextlib.suppress(UnicodeError):
        return b"\0" not in os.fsencode(name + value)
    return False
