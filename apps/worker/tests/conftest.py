from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support import Worker, running


@pytest.fixture(scope="session", params=["started with it", "specialised"])
def birth(request: pytest.FixtureRequest) -> str:
    """How workers come by their function: nothing else may tell one from the other."""
    return request.param


@pytest.fixture
def start(tmp_path: Path, birth: str) -> Iterator[Callable[..., Worker]]:
    """Starts workers that end with the test."""
    yield from _starter(tmp_path, birth)


@pytest.fixture(scope="module")
def start_shared(
    tmp_path_factory: pytest.TempPathFactory, birth: str
) -> Iterator[Callable[..., Worker]]:
    """Starts workers for calls that leave their runner as it was."""
    yield from _starter(tmp_path_factory.mktemp("shared"), birth)


def _starter(tmp_path: Path, birth: str) -> Iterator[Callable[..., Worker]]:
    with ExitStack() as stack:
        count = 0

        def start_worker(handler: str, **env: Any) -> Worker:
            nonlocal count
            count += 1
            directory = tmp_path / str(count)
            directory.mkdir()
            if (uid := env.get("uid")) is not None:
                for parent in list(directory.parents)[:3]:
                    parent.chmod(0o755)
                os.chown(directory, uid, uid)
            env = {"HANDLER_FUNCTION": handler, "generic": birth == "specialised", **env}
            return stack.enter_context(running(directory, **env))

        yield start_worker
