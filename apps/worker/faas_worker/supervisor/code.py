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
    with contextlib.suppress(OSError):
        return lay_code_out_again(settings)
    return lay_code_out_again(replace(settings, app_dir=tempfile.mkdtemp(prefix="faas-")))


def lay_code_out_again(settings: Settings) -> Settings:
    """The same, where it has lain before and nowhere else."""
    folder = os.path.abspath(settings.app_dir)
    module = settings.handler.rpartition(".")[0]
    path = os.path.join(folder, *module.split(".")) + ".py"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "xb") as file:
        file.write(settings.code or b"")
    os.chmod(path, 0o444)
    # Not the folder of the app itself, which could not be emptied then.
    if os.path.dirname(path) != folder:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(path), 0o555)
    return settings
