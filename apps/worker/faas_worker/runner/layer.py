"""Has a handler import the packages of its layer."""

from __future__ import annotations

import contextlib
import os
import site
import sys

import uvicorn

# Looked up again by the worker itself while it serves, and not only when it was started.
_KEPT = frozenset({"faas_worker", "uvicorn", "uvloop"})


def is_lost(layer: str | None) -> bool:
    """Somebody has removed it: the worker's own packages must not stand in for its own."""
    return layer is not None and not os.path.isdir(layer)


def take_layer(layer: str) -> None:
    """After the standard library and before the worker's own packages, as if it were the only
    folder of packages: what the worker has loaded of the same name is not the handler's."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(uvicorn.__file__)))
    is_listed = own in sys.path
    if is_listed:
        sys.path.remove(own)
    # With what its .pth files say.
    site.addsitedir(layer)
    if is_listed:
        sys.path.append(own)
    forget_doubles(layer, own)
    # For programs that the handler starts, console scripts of the layer among them.
    prepend("PATH", os.path.join(layer, "bin"))
    prepend("PYTHONPATH", layer)


def forget_doubles(layer: str, own: str) -> None:
    with contextlib.suppress(OSError):
        names = {name.partition(".")[0] for name in os.listdir(layer)} - _KEPT
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None) or ""
            if name.partition(".")[0] in names and file.startswith(own + os.sep):
                del sys.modules[name]


def prepend(variable: str, path: str) -> None:
    before = os.environ.get(variable)
    os.environ[variable] = path if not before else f"{path}{os.pathsep}{before}"
