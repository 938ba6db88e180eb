import json


def handle(payload: str) -> object:
    """Returns the value that the payload says as JSON; raises where it is none."""
    if payload == "raise":
        raise ValueError("no name given")
    return json.loads(payload)
