"""What makes a function's worker of a generic one, read from the body of one request."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace

from ..settings import GENERIC_VARIABLES, Settings, SettingsError, read_settings


class BodyRefused(ValueError):  # noqa: N818 - named for what happened
    """The body can't be used; the message says why."""


def specialised_settings(
    body: bytes, environ: Mapping[str, str]
) -> tuple[Settings, dict[str, str]]:
    """The settings and the whole environment of the function's worker. Raises BodyRefused."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if type(document) is not dict:
        raise BodyRefused("The body must be a JSON object.")
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
    return replace(settings, code=_code_in(document)), environment


def _is_variable(item: tuple[str, object]) -> bool:
    name, value = item
    if type(value) is not str or not name or name in GENERIC_VARIABLES:
        return False
    text = name + value
    # Lone surrogates other than those that stand for undecodable bytes can't be encoded.
    with contextlib.suppress(UnicodeError):
        os.fsencode(text)
        return "\0" not in text and "=" not in name
    return False


def _code_in(document: dict[str, object]) -> bytes | None:
    code = document.get("code")
    if code is None:
        return None
    if type(code) is str:
        with contextlib.suppress(binascii.Error, ValueError):
            return base64.b64decode(code, validate=True)
    raise BodyRefused('"code" must be the file in base64.')


def take_on(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()


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
    """A copy for whoever looks for the file, such as the handler's own further processes. Runners
    load what the supervisor has in memory: the handler may be able to change its file."""
    path = os.path.join(app_dir, *module.split(".")) + ".py"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "xb") as file:
        file.write(code)
    os.chmod(path, 0o444)
    with contextlib.suppress(OSError):
        os.chmod(os.path.dirname(path), 0o555)
