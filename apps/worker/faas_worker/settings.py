"""The environment, parsed once; every fault is named at once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .protocol import KINDS, LINGER_SECONDS

# Told to a worker without a function, and to nobody after it has one.
GENERIC_VARIABLES = frozenset({"FAAS_SPECIALISE_SHA256", "FAAS_GENERIC_LEASE_MS"})


class SettingsError(ValueError):
    """One or more environment variables can't be used."""


@dataclass(frozen=True, slots=True)
class Settings:
    handler: str
    app_dir: str
    host: str
    port: int
    socket_path: str | None
    function: str | None
    timeout_ms: int
    drain_ms: int
    concurrency: int
    max_result_bytes: int
    max_body_bytes: int
    limit_memory_bytes: int | None
    limit_pids: int | None
    # Of processes and threads there may be in this container, where it can't see that by itself.
    most_tasks: int | None
    event_loop: str
    # A folder of packages that the handler may import.
    layer: str | None
    # Where such folders come that this worker fetches itself.
    layers_dir: str
    # Set: starts without a function, and takes one from whoever knows the token of this digest.
    specialise_sha256: str | None
    lease_ms: int | None
    # Set: answers whoever shows the token of this digest, and nobody else.
    call_sha256: str | None
    # What the handler is called with.
    kind: str
    revision: int | None
    # Folders, and "ipc": what holds nothing but what handlers leave.
    scratch: tuple[str, ...]
    # Its code is loaded once, and the log says when its call has printed all that it will.
    is_called_once: bool
    # Where the handler finds those of its secrets that are files.
    secrets_dir: str
    # The handler's file, when it was handed over instead of laid out.
    code: bytes | None = None


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.faults: list[str] = []

    def text(self, name: str, default: str) -> str:
        return self.environ.get(name) or default

    def number(self, name: str, default: int, least: int = 1, most: int = 2**53) -> int:
        return self.optional_number(name, least, most) or default

    def optional_number(self, name: str, least: int = 1, most: int = 2**53) -> int | None:
        raw = self.environ.get(name, "").strip()
        if not raw:
            return None
        # isdecimal() alone would let other scripts' digits through.
        if raw.isascii() and raw.isdecimal() and len(raw) <= 16 and least <= int(raw) <= most:
            return int(raw)
        self.faults.append(f"{name} must be a whole number from {least} to {most}")
        return None

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """The first one is the default."""
        found = self.text(name, choices[0])
        if found not in choices:
            self.faults.append(f"{name} must be one of {', '.join(choices)}")
        return found

    def folder(self, name: str) -> str | None:
        found = self.environ.get(name) or None
        if found is not None and not os.path.isdir(found):
            self.faults.append(f"{name} names no folder")
        return found

    def digest(self, name: str) -> str | None:
        raw = self.environ.get(name) or None
        if raw is not None and not re.fullmatch(r"[0-9a-f]{64}", raw):
            self.faults.append(f"{name} must be a SHA-256 in lower-case hexadecimal")
        return raw


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Raises SettingsError with all faults in one message."""
    read = _Reader(environ)
    timeout_ms = read.number("FAAS_TIMEOUT_MS", 30_000, most=86_400_000)
    drain_ms = timeout_ms + int(LINGER_SECONDS * 1000)
    settings = Settings(
        handler=read.text("HANDLER_FUNCTION", "function.handler.handle"),
        app_dir=read.text("FAAS_APP_DIR", "/app"),
        host=read.text("FAAS_HOST", "0.0.0.0"),
        port=read.number("FAAS_PORT", 8000, most=65_535),
        socket_path=environ.get("FAAS_SOCKET") or None,
        function=environ.get("FAAS_FUNCTION") or None,
        timeout_ms=timeout_ms,
        drain_ms=read.number("FAAS_DRAIN_MS", drain_ms, most=86_400_000),
        concurrency=read.number("FAAS_CONCURRENCY", 32, most=4096),
        max_result_bytes=read.number("FAAS_MAX_RESULT_BYTES", 40 * 2**20),
        max_body_bytes=read.number("FAAS_MAX_BODY_BYTES", 400 * 2**20),
        limit_memory_bytes=read.optional_number("FAAS_LIMIT_MEMORY_BYTES"),
        limit_pids=read.optional_number("FAAS_LIMIT_PIDS"),
        most_tasks=read.optional_number("FAAS_MOST_TASKS"),
        event_loop=read.choice("FAAS_EVENT_LOOP", ("uvloop", "asyncio")),
        layer=read.folder("FAAS_LAYER"),
        is_called_once=read.choice("FAAS_CALLED_ONCE", ("no", "yes")) == "yes",
        layers_dir=read.text("FAAS_LAYERS_DIR", "/layers"),
        specialise_sha256=read.digest("FAAS_SPECIALISE_SHA256"),
        kind=read.choice("FAAS_HANDLER_KIND", KINDS),
        revision=read.optional_number("FAAS_REVISION", most=2**31),
        scratch=tuple(filter(None, read.text("FAAS_SCRATCH", "").split(":"))),
        lease_ms=read.optional_number("FAAS_GENERIC_LEASE_MS", most=86_400_000),
        call_sha256=read.digest("FAAS_CALL_SHA256"),
        secrets_dir=read.text("FAAS_SECRETS_DIR", "/run/secrets"),
    )
    if read.faults:
        raise SettingsError("; ".join(read.faults))
    return settings
