"""A first function: it greets whom a JSON payload names, and looks at the words of other text.

The payload {"name": "Ada"} is answered with {"greeting": "Hello, Ada!", ...}, the payload
the quick brown fox with {"words": 4, "longest": "quick", ...}.
"""

import json
from collections import Counter


def handle(payload: str) -> dict:
    try:
        document = json.loads(payload)
    except ValueError:
        return describe(payload)
    if isinstance(document, dict):
        name = document.get("name", "stranger")
        return {"greeting": f"Hello, {name}!", "fields": sorted(document)}
    return {"echo": document, "type": type(document).__name__}


def describe(text: str) -> dict:
    words = text.split()
    return {
        "words": len(words),
        "characters": len(text),
        "longest": max(words, key=len, default=""),
        "most_common": [word for word, _ in Counter(words).most_common(3)],
    }
