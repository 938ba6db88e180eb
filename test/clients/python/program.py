"""What a user of openapi-python-client's client writes. Says on stdout what it saw, as JSON."""

import json
import sys
from io import BytesIO

from faas_client import AuthenticatedClient
from faas_client.api.execution import execute_function
from faas_client.api.functions import add_function, get_function, list_functions, remove_function
from faas_client.models import (
    ExecuteRequestDto,
    ExecuteResponse,
    FunctionDetailDto,
    FunctionDto,
    Problem,
    UploadDto,
)
from faas_client.types import File

url, key, handler, payloads = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
client = AuthenticatedClient(base_url=url, token=key)

with open(handler, "rb") as source:
    upload = UploadDto(
        python_file=File(payload=BytesIO(source.read()), file_name="handler.py"),
        function_name="handle",
        concurrency=4,
    )
added = add_function.sync(client=client, body=upload)
assert isinstance(added, FunctionDto), added

results = []
for payload in payloads:
    answer = execute_function.sync(added.id, client=client, body=ExecuteRequestDto(payload=payload))
    assert isinstance(answer, ExecuteResponse), answer
    results.append(answer.result)

raised = execute_function.sync(added.id, client=client, body=ExecuteRequestDto(payload="raise"))
assert isinstance(raised, Problem), raised
assert isinstance(raised.traceback, str)
detail = get_function.sync(added.id, client=client)
assert isinstance(detail, FunctionDetailDto), detail
listed = list_functions.sync(client=client, limit=10)
assert isinstance(listed, list), listed
removed = remove_function.sync_detailed(added.id, client=client)
missing = get_function.sync(added.id, client=client)
assert isinstance(missing, Problem), missing
invalid = add_function.sync(
    client=client, body=UploadDto(python_file=File(payload=BytesIO(b"")), function_name="f")
)
assert isinstance(invalid, Problem), invalid

print(
    json.dumps(
        {
            "status": added.status,
            "concurrency": added.concurrency,
            "results": results,
            "raised": {
                "status": raised.status,
                "code": raised.code,
                "python_type": raised.python_type,
                "python_message": raised.python_message,
            },
            "detail": {"last_error": detail.last_error, "max_replicas": detail.max_replicas},
            "listed": [one.function_name for one in listed],
            "removed": removed.status_code,
            "missing": missing.code,
            "invalid": {"code": invalid.code, "field": invalid.field},
        }
    )
)
