"""What handlers may import from the worker: `import faas`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Response"]


class Response:
    """All of the answer to an HTTP call. `body`: bytes, a str, a generator of those, or a value
    that becomes JSON; None: none. `headers`: a mapping, or pairs where a name comes twice."""

    __slots__ = ("body", "headers", "status")
    #: By this the worker knows it.
    faas_response = True

    def __init__(
        self,
        status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: Any = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
