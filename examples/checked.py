"""What a caller sees of an exception. Upload it with function_name=divide, send {"a": 1, "b": 0}.

The answer is 500 with code "handler_error", the exception's type and message, and the traceback.
"""

import json


class InvalidFieldError(ValueError):
    """Says which field is at fault, so that the caller can mend it."""


def divide(payload: str) -> float:
    numbers = json.loads(payload)
    for field in ("a", "b"):
        if not isinstance(numbers.get(field), int | float):
            raise InvalidFieldError(f"{field} must be a number")
    return numbers["a"] / numbers["b"]
