from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import gettempdir
from typing import Any
from zlib import crc32

import pytest

from support import Worker, running

BIRTHS = ["started with it", "specialised"]
# What handlers do to their runner comes in hundreds of kinds: half of them to a worker of one
# birth, half to one of the other, and all to both where ALL_BIRTHS is set.
HALVED = {"test_first_process", "test_hostile_handlers", "test_state_corruption"}


@pytest.fixture(scope="session", params=BIRTHS)
def birth(request: pytest.FixtureRequest) -> str:
    """How workers come by their function: nothing else may tell one from the other."""
    return request.param


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def is_wanted(item: pytest.Item) -> bool:
        parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
        if item.path.stem not in HALVED or "birth" not in parameters:
            return True
        name = item.nodeid.replace(parameters["birth"], "")
        return parameters["birth"] == BIRTHS[crc32(name.encode()) % len(BIRTHS)]

    if os.environ.get("ALL_BIRTHS"):
        return
    config.hook.pytest_deselected(items=[item for item in items if not is_wanted(item)])
    items[:] = filter(is_wanted, items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI everything can run: what is skipped there would never be run at all."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped in CI: {report.longrepr}"
    return report


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
                for parent in list(directory.parents)[:4]:
                    if parent == Path(gettempdir()).resolve():
                        break
                    parent.chmod(0o755)
                os.chown(directory, uid, uid)
            env = {"HANDLER_FUNCTION": handler, "generic": birth == "specialised", **env}
            return stack.enter_context(running(directory, **env))

        yield start_worker
