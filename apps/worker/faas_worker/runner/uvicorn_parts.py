"""What is used of uvicorn: its HTTP protocol.

What its program needs beside that would take a tenth of the memory of a worker that waits for a
function, and of the time in which it starts. So that is not imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING


class _Placeholder(ModuleType):
    def __getattr__(self, name: str) -> None:
        """Any name may be imported from it, and stands for nothing."""
        if name.startswith("__"):
            raise AttributeError(name)


@contextmanager
def _placeholders(*names: str) -> Iterator[None]:
    """In the place of modules that are not there already, until the end of the block."""
    found = {name: _Placeholder(name) for name in names if name not in sys.modules}
    sys.modules.update(found)
    try:
        yield
    finally:
        for name in found:
            del sys.modules[name]


with _placeholders("click", "configparser", "uvicorn.main", "uvicorn.server"):
    # It is loaded by name; here it is loaded once, before the fork, and not in every runner.
    import uvicorn.lifespan.off  # noqa: F401
    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

if TYPE_CHECKING:
    from uvicorn.server import ServerState
else:
    ServerState = object

__all__ = ["STATUS_LINE", "Config", "HttpToolsProtocol", "ServerState", "forget_uvicorn"]


def forget_uvicorn() -> None:
    """A handler that imports it gets all of it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "uvicorn"]:
        del sys.modules[name]
