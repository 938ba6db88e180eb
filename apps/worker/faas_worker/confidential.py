"""What nobody but a handler may read of its environment, kept out of what the worker tells.

A net below careless code: a handler that encodes a value, or prints it in parts, still tells it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, MutableMapping

MASK = "***"
# What is shorter is found in any text, and would tell that it is a part of it.
_FEWEST_CHARS = 4

# The longest first: of a value nothing must be left around a part of it. No pattern: compiling
# one of values as large as they may be takes more memory than a small worker has.
_text: list[str] = []
_bytes: list[bytes] = []


def hide(environ: MutableMapping[str, str], folder: str) -> None:
    """From now on the values are masked: the variables that FAAS_SECRETS names, and the files, of
    which the handler is told where they are."""
    global _text, _bytes
    values: list[str] = []
    names = environ.get("FAAS_SECRETS")
    if names is not None:
        environ.setdefault("FAAS_SECRETS_DIR", folder)
        values = [*_variables(environ, names), *_files(folder)]
    _text = sorted(set(_forms_of(values)), key=len, reverse=True)
    _bytes = [form.encode(errors="surrogateescape") for form in _text]


def masked(text: str) -> str:
    for form in _text:
        text = text.replace(form, MASK)
    return text


def masked_bytes(text: bytes) -> bytes:
    for form in _bytes:
        text = text.replace(form, MASK.encode())
    return text


def lay_files_out(folder: str, files: Mapping[str, bytes]) -> None:
    """Raises OSError when there is no place for them."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for name, content in files.items():
        file = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(file, "wb") as opened:
            opened.write(content)


def _variables(environ: Mapping[str, str], names: str) -> list[str]:
    return [environ[name] for name in names.split(",") if name in environ]


def _files(folder: str) -> list[str]:
    contents: list[str] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        # A cluster's volume has folders of its own in it.
        for entry in entries:
            if entry.is_file():
                with open(entry.path, encoding="utf-8", errors="replace") as file:
                    contents.append(file.read())
    return contents


def _forms_of(values: Iterable[str]) -> Iterable[str]:
    for value in values:
        # Of a value of several lines, such as a key in PEM, a log has them one by one.
        lines = value.splitlines() if "\n" in value or "\r" in value else []
        for part in (value, value.strip(), *(line.strip() for line in lines)):
            if len(part) >= _FEWEST_CHARS:
                # As it is, and as Python and JSON write it in quotes.
                for form in (repr(part), json.dumps(part), json.dumps(part, ensure_ascii=False)):
                    yield form[1:-1]
                yield part
