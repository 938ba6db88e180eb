"""Handlers of HTTP calls, as their users write them."""

import asyncio
import time
from contextlib import asynccontextmanager

import faas
from fastapi import (
    BackgroundTasks,
    FastAPI,
    HTTPException,
    Request,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
)
from fastapi.responses import PlainTextResponse, StreamingResponse


def handle(payload):
    match payload:
        case "json":
            return {"a": 1}
        case "response":
            return faas.Response(201, {"X-A": "1"}, "made")
        case "empty":
            return faas.Response(204)
        case "reset":
            return faas.Response(205, body=b"left out")
        case "typed":
            return faas.Response(200, {"content-type": "text/html"}, b"<p>")
        case "stream":
            return (f"{number}\n" for number in range(3))
        case "failing stream":
            return failing()
        case "async stream":
            return pieces()
        case "response of async stream":
            return faas.Response(202, {"X-A": "1"}, pieces())
        case "endless":
            return endless()
        case "endless async":
            return endless_async()
        case "slow":
            time.sleep(60)
        case "bomb":
            return faas.Response(200, [(f"x-{n}", "y") for n in range(500)])
        case "beyond":
            return faas.Response(200, {"x-name": "\u0101"}, "a")
        case "length":
            return faas.Response(200, {"content-length": "7"}, b"four")
    return payload


def failing():
    yield b"first"
    raise ValueError("in the middle")


async def pieces():
    for number in range(3):
        await asyncio.sleep(0)
        yield b"%d" % number


def endless():
    try:
        while True:
            yield b"x" * 65536
    finally:
        print("the stream was closed", flush=True)


async def endless_async():
    try:
        while True:
            yield b"x" * 65536
    finally:
        print("the stream was closed", flush=True)


async def handle_async(payload):
    return handle(payload)


def with_context(payload, context):
    return {
        "payload": payload,
        "request_id": context.request_id,
        "function": context.function,
        "revision": context.revision,
        "attempt": context.attempt,
        "left": context.remaining_ms(),
        "deadline": context.deadline.tzinfo is not None,
        "method": context.method,
        "path": context.path,
        "all": context.query and context.query.all("x"),
        "last": context.query and context.query["x"],
        "header": context.headers and context.headers.get("X-MINE"),
        "body": context.body and list(context.body),
    }


state = {"started": 0, "after": 0}


@asynccontextmanager
async def lifespan(app):
    state["started"] += 1
    yield {"greeting": "hello"}
    print("the application has ended", flush=True)


app = FastAPI(lifespan=lifespan)


@app.get("/items/{number}")
def item(number: int, request: Request):
    return {
        "number": number,
        "root": request.scope["root_path"],
        "url": str(request.url_for("state_of")),
    }


@app.get("/state")
async def state_of(request: Request):
    return {**state, "greeting": request.state.greeting}


@app.post("/")
async def root(body: dict):
    return {"got": body}


@app.get("/text")
async def text():
    return PlainTextResponse("plain", headers={"x-a": "1"})


@app.get("/after")
async def after(tasks: BackgroundTasks):
    async def later():
        await asyncio.sleep(0.05)
        state["after"] += 1

    tasks.add_task(later)
    return "before"


@app.get("/events")
async def events():
    async def all_of_them():
        for number in range(3):
            yield f"data: {number}\n\n"

    return StreamingResponse(all_of_them(), media_type="text/event-stream")


@app.get("/large")
async def large():
    async def pieces():
        for _ in range(64):
            yield b"x" * 2**18

    return StreamingResponse(pieces())


@app.post("/upload")
async def upload(request: Request):
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return size


@app.get("/raise")
async def raising():
    raise ValueError("of the application")


@app.websocket("/echo")
async def echo(socket: WebSocket):
    await socket.accept(headers=[(b"x-mine", b"1"), (b"sec-websocket-accept", b"forged")])
    while True:
        match await socket.receive():
            case {"type": "websocket.receive", "text": text}:
                await socket.send_text(text)
            case {"type": "websocket.receive", "bytes": data}:
                await socket.send_bytes(data)
            case {"type": "websocket.disconnect", "code": code}:
                print(f"left with {code}", flush=True)
                break


@app.websocket("/told/{number}")
async def told(socket: WebSocket, number: int, colour: str):
    await socket.accept(subprotocol="second")
    await socket.send_json(
        {
            "number": number,
            "colour": colour,
            "url": str(socket.url),
            "offered": socket.scope["subprotocols"],
            "header": socket.headers.get("x-told"),
            "greeting": socket.state.greeting,
        }
    )
    await socket.close(3001, "that is all")


@app.websocket("/refuse")
async def refuse(socket: WebSocket):
    await socket.close()


@app.websocket("/deny")
async def deny(socket: WebSocket):
    await socket.send_denial_response(PlainTextResponse("not you", 402))


@app.websocket("/forbidden")
async def forbidden(socket: WebSocket):
    raise HTTPException(404, "no such room")


@app.websocket("/policy")
async def policy(socket: WebSocket):
    await socket.accept()
    raise WebSocketException(1008, "no")


@app.websocket("/fails")
async def fails(socket: WebSocket):
    await socket.accept()
    raise ValueError("of the WebSocket")


@app.websocket("/fails-before")
async def fails_before(socket: WebSocket):
    raise ValueError("before the WebSocket")


@app.websocket("/returns")
async def returns(socket: WebSocket):
    await socket.accept()


@app.websocket("/tutorial")
async def tutorial(socket: WebSocket):
    await socket.accept()
    try:
        while True:
            await socket.send_text(f"you said {await socket.receive_text()}")
    except WebSocketDisconnect as end:
        print(f"disconnected with {end.code}", flush=True)


@app.websocket("/thorough")
async def thorough(socket: WebSocket):
    await socket.accept()
    try:
        while True:
            said = await socket.receive_text()
            await asyncio.sleep(0.5)
            print(f"dealt with {said}", flush=True)
    except WebSocketDisconnect as end:
        await asyncio.sleep(0.3)
        print(f"cleaned up after {end.code}", flush=True)


@app.websocket("/bulk")
async def bulk(socket: WebSocket):
    await socket.accept()
    await socket.send_bytes(b"x" * 16 * 1024 * 1024)


@app.websocket("/deaf")
async def deaf(socket: WebSocket):
    await socket.accept()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("the deaf one was ended", flush=True)
        raise


@app.websocket("/flood")
async def flood(socket: WebSocket):
    await socket.accept()
    sent = 0
    try:
        while True:
            await socket.send_bytes(b"x" * 65536)
            sent += 1
    finally:
        print(f"flooded {sent}", flush=True)


def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/write":
        write = start_response("200 OK", [])
        write(b"written ")
        return [b"returned"]
    if environ["PATH_INFO"] == "/none":
        return [b"no head"]
    if environ["PATH_INFO"] == "/text":
        start_response("200 OK", [("Content-Length", "4")])
        return ["text"]
    if environ["PATH_INFO"].startswith("/environ"):
        start_response("200 OK", [])
        return [repr((environ["PATH_INFO"], environ.get("HTTP_COOKIE"))).encode()]
    if environ["PATH_INFO"] == "/bad":
        start_response("200 OK", [("X-A", "a\nb")])
        return [b""]
    body = environ["wsgi.input"].read(5) + environ["wsgi.input"].read()
    start_response(
        "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    )
    return [body]


async def misanswering(scope, receive, send):
    """Answers with the status that it is told, and hides that there is none."""
    assert scope["type"] == "http", scope["type"]
    status = int((await receive())["body"])
    try:
        await send({"type": "http.response.start", "status": status})
    except ValueError:
        await send({"type": "http.response.start", "status": 500})
    await send({"type": "http.response.body", "body": b"x"})


def misanswering_wsgi(environ, start_response):
    start_response(environ["wsgi.input"].read().decode(), [])
    return [b"x"]


async def failing_lifespan(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def bare(scope, receive, send):
    assert scope["type"] == "http", scope["type"]
    match scope["path"]:
        case "/nothing":
            return
        case "/twice":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.start", "status": 200})
        case "/short":
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(b"content-length", b"9")],
                }
            )
            await send({"type": "http.response.body", "body": b"four"})
        case "/swallowed":
            try:
                await send(
                    {
                        "type": "http.response.start",
                        "status": 200,
                        "headers": [(b"x", b"y" * 20_000)],
                    }
                )
            except ValueError:
                await send({"type": "http.response.start", "status": 500})
                await send({"type": "http.response.body", "body": b"own words"})
        case "/reset":
            await send({"type": "http.response.start", "status": 205})
            await send({"type": "http.response.body", "body": b""})
        case "/begun":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
            size, more = 0, True
            while more:
                message = await receive()
                size, more = size + len(message["body"]), message["more_body"]
            await send({"type": "http.response.body", "body": b"%d" % size})
        case "/stubborn":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                try:
                    await send({"type": "http.response.start", "status": 200})
                    await send({"type": "http.response.body", "body": b"too late"})
                except OSError:
                    print("nobody waits", flush=True)
        case "/head":
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(b"content-length", b"9")],
                }
            )
            await send({"type": "http.response.body", "body": b""})
        case _:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"answer"})
