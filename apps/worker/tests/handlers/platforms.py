"""Handlers as users of other platforms have them."""

import base64
import json
import os


def orders_of_lambda(event, context):
    """What a function behind an HTTP API of API Gateway does."""
    http = event["requestContext"]["http"]
    if http["path"] == "/picture":
        assert event["isBase64Encoded"]
        return {
            "statusCode": 200,
            "headers": {"Content-Type": "image/png"},
            "body": base64.b64encode(base64.b64decode(event["body"])[::-1]).decode(),
            "isBase64Encoded": True,
        }
    if http["path"] == "/plain":
        return {"message": "no status"}
    if http["path"] == "/text":
        return "Hello from Lambda!"
    if http["path"].startswith("/status"):
        return {"statusCode": json.loads(event["body"]), "body": "x"}
    order = json.loads(event.get("body") or "{}")
    return {
        "statusCode": 201,
        "headers": {"Content-Type": "application/json", "X-Request": context.aws_request_id},
        "cookies": ["a=1; Secure", "b=2"],
        "body": json.dumps(
            {
                "method": http["method"],
                "order": order,
                "colour": event["queryStringParameters"]["colour"],
                "cookies": event["cookies"],
                "agent": event["headers"]["x-agent"],
                "left": context.get_remaining_time_in_millis() > 0,
            }
        ),
    }


def total_of_lambda(event, context):
    """What a function that is invoked directly does."""
    return {"total": sum(event["amounts"]), "name": context.function_name}


def openfaas(event, context):
    if event.path == "/json":
        return {"statusCode": 200, "body": {"a": 1}}
    if event.path == "/nothing":
        return None
    if event.body == b"number":
        return 5
    if event.body == b"failed":
        return {"statusCode": 500, "body": {"a": 1}}
    if event.body.startswith(b"status "):
        return {"statusCode": event.body[7:].decode(), "body": "x"}
    return {
        "statusCode": 202,
        "body": f"{event.method} {event.query.get('x')} {event.headers.get('X-Mine')} "
        + event.body.decode(),
        "headers": {"Content-Type": "text/plain", "X-Host": context.hostname},
    }


def new():
    return Greeter()


class Greeter:
    """A function of Knative."""

    def __init__(self):
        self.greeting = None

    async def handle(self, scope, receive, send):
        message = await receive()
        body = f"{self.greeting} {scope['path']} {message['body'].decode()}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def start(self, config):
        self.greeting = f"Hello from {config['FAAS_FUNCTION']}"

    def stop(self):
        os.write(1, b"stopped\n")


def of_nothing():
    return object()


def greet_of_cloud(request):
    return f"Hello {request.args['name']}"
