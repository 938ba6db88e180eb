"""Lays a copy of the handler's file out for whoever looks for it.

Runners load what the supervisor has in memory: the handler may be able to change its file.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import replace

from ..settings import Settings


def lay_code_out(settings: Settings) -> Settings:
    """Where it lies is in the result. Raises OSError when there is no place for it."""
    if settings.code is None:
        return settings
    module = settings.handler.rpartition(".")[0]
    try:
        _lay_out(settings.app_dir, module, settings.code)
        return settings
    except OSError:
        app_dir = tempfile.mkdtemp(prefix="faas-")
    _lay_out(app_dir, module, settings.code)
    return replace(settings, app_dir=app_dir)


def lay_code_again(settings: Settings) -> None:
    """The same where it was. Raises OSError when there is no place for it."""
    if settings.code is not None:
        _lay_out(settings.app_dir, settings.handler.rpartition(".")[0], settings.code)


def _lay_out(app_dir: str, module: str, code: bytes) -> None:
    path = os.path.join(os.path.abspath(app_dir), *module.split(".")) + ".py"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "xb") as file:
        file.write(code)
    os.chmod(path, 0o444)
    with contextlib.suppress(OSError):
        # Not the folder of the app itself, which could not be emptied then.
        if os.path.dirname(path) != os.path.abspath(app_dir):
            os.chmod(os.path.dirname(path), 0o555)
