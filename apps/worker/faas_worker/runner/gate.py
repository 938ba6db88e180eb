"""Who may call this worker: whoever shows the token that it knows the digest of.

The token is this replica's alone. Handler code may find it in its own memory, and then knows what
opens its own worker, and no other one.
"""

from __future__ import annotations

import asyncio
import re
from hashlib import sha256
from hmac import compare_digest

from ..protocol import Header
from .calls import Send
from .exchange import Receive, Scope, hang_up, read_rest, respond
from .results import Answer, worker_misdirected
from .server import CONNECTION

_PAUSE_SECONDS = 0.5
# Who is turned away waits in memory; further ones get no answer.
_MOST_WAITING = 16
# As the manager and a kubelet call it: by its address, or over a socket that has a path.
_OWN_HOST = re.compile(rb"(localhost|worker|[0-9.]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?")
# To a manager it says the same as 421: another replica has the address that the call was meant for.
_REFUSAL = worker_misdirected(403, "This worker answers its manager only.")

Headers = dict[bytes, bytes]


class Gate:
    def __init__(self, digest: str | None) -> None:
        """`digest`: of the token, in hexadecimal; None: it is open to all but web pages."""
        self._digest = None if digest is None else bytes.fromhex(digest)
        #: The right token, once somebody has shown it.
        self._known: bytes | None = None
        self._waiting = 0

    def admits(self, scope: Scope, headers: Headers) -> bool:
        """Takes the token out of the scope: handler code has no use for it."""
        if b"origin" in headers or b"sec-fetch-site" in headers:
            return False  # Browsers tell by themselves that a page calls.
        token = headers.get(Header.TOKEN)
        if token is not None:
            scope["headers"].remove((Header.TOKEN, token))
        connection = scope["state"][CONNECTION]
        if not (self._is_right(token) or connection.is_own):
            return False
        if connection.unknown is not None:
            connection.keep()
        return True

    def _is_right(self, token: bytes | None) -> bool:
        if self._digest is None:
            return True
        if token is None:
            return False
        if self._known is not None and compare_digest(token, self._known):
            return True
        if not compare_digest(sha256(token).digest(), self._digest):
            return False
        self._known = token
        return True

    async def turn_away(self, receive: Receive, send: Send, refusal: Answer = _REFUSAL) -> None:
        """Slowly, and no more than a few at once."""
        if self._waiting >= _MOST_WAITING:
            hang_up(send)
            return
        self._waiting += 1
        try:
            await asyncio.gather(asyncio.sleep(_PAUSE_SECONDS), read_rest(receive))
        finally:
            self._waiting -= 1
        await respond(send, refusal, close=True)


def may_look(headers: Headers) -> bool:
    """Whether a request may hear that the worker is well though it shows no token, as a kubelet's.
    Not one by a name that somebody has given this address (DNS rebinding)."""
    if Header.TOKEN in headers or b"origin" in headers or b"sec-fetch-site" in headers:
        return False
    host = headers.get(b"host")
    return host is None or _OWN_HOST.fullmatch(host) is not None
