import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { loadConfig } from '#libs/config/load-config.js';
import { describeOnEachLocalEngine } from '../support/engines.js';
import { describeSkipped } from '../support/skipped.js';
import { patternOf, REQUESTS, runExamples } from '../support/examples.js';
import { Stage } from '../support/stage.js';
import { WebSocketClient } from '../support/web-socket.js';

const PATIENT = { timeout: 400_000 };
const TITLE = 'Packages of the public index';
const index = process.env['PYTHON_INDEX_URL'] ?? loadConfig({}).layers.indexUrl!;
const CODE = `
import os, subprocess
import certifi
import numpy

def handle(payload):
    ones = numpy.ones((3, 4))
    tool = subprocess.run(["normalizer", "--version"], capture_output=True, text=True)
    return [(ones @ ones.T).tolist(), os.path.getsize(certifi.where()) > 100_000, tool.stdout[:18], tool.stderr]
`;

/** Frameworks of which no page has an example. */
const STARLETTE = `
# /// script
# dependencies = ["starlette"]
# ///
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

@asynccontextmanager
async def lifespan(app):
    yield {"phase": "started"}

async def greet(request):
    other = request.url_for("greet", name="Bob")
    return PlainTextResponse(f"Hello {request.path_params['name']} {other} {request.state.phase}")

class Sum(WebSocketEndpoint):
    encoding = "json"

    async def on_connect(self, socket):
        await socket.accept(subprotocol=socket.scope["subprotocols"][0])

    async def on_receive(self, socket, numbers):
        await socket.send_json({"sum": sum(numbers)})

app = Starlette(lifespan=lifespan, routes=[Route("/greet/{name}", greet, name="greet"), WebSocketRoute("/sum", Sum)])
`;
const CLOUD_EVENT = `
import functions_framework

@functions_framework.cloud_event
def on_event(event):
    print(event["id"], event["type"], event.data, flush=True)
`;

const missing = await whyUnreachable();

if (missing !== undefined) {
  process.stderr.write(`skipped: ${TITLE}: ${missing}\n`);
  describeSkipped(TITLE, missing);
} else {
  describeOnEachLocalEngine(TITLE, (engine) => {
    const stage = Stage.on(engine, { PYTHON_INDEX_URL: index });

    it('work that are compiled, have files of data, and bring commands', async () => {
      const { manager } = stage;
      const { id } = await manager.add(CODE, { requirements: 'numpy\ncertifi\ncharset-normalizer' });
      expect((await manager.call(id)).json()).toEqual({
        result: [Array.from({ length: 3 }, () => [4, 4, 4]), true, 'Charset-Normalizer', ''],
      });
      await manager.remove(id);
    });

    it('bring frameworks whose applications run as they are, with their WebSockets', PATIENT, async () => {
      const { manager } = stage;
      const { id } = await manager.add(STARLETTE, { name: 'app' });
      const path = `/f/${id}/greet/Ada?n=2`;
      expect((await manager.send(path)).text).toBe(`Hello Ada ${manager.url}/f/${id}/greet/Bob started`);
      const socket = await WebSocketClient.open(`${manager.url}/f/${id}/sum`, { protocols: ['numbers'] });
      expect(socket.socket.protocol).toBe('numbers');
      expect(await socket.ask('[1, 2, 3]')).toBe('{"sum":6}');
      expect(await socket.close(1000)).toMatchObject({ code: 1000 });
      await manager.remove(id);
      const { id: event } = await manager.add(CLOUD_EVENT, {
        name: 'on_event',
        handler_kind: 'functions-framework',
        requirements: 'functions-framework',
      });
      const headers = { 'ce-id': '7', 'ce-type': 'a.b', 'ce-source': '/here', 'ce-specversion': '1.0' };
      const sent = { method: 'POST', headers: { ...headers, 'Content-Type': 'application/json' }, body: '{"n": 1}' };
      expect(await manager.send(`/f/${event}`, sent)).toMatchObject({ status: 200, text: 'OK' });
      await vi.waitFor(async () => expect((await manager.logOf(event)).join()).toContain("7 a.b {'n': 1}"), PATIENT);
      expect((await manager.send(`/f/${event}`, { ...sent, headers: {} })).status).toBe(400);
      await manager.remove(event);
    });

    it.each(['web-apps', 'migrating'])('make what docs/%s.md shows', PATIENT, async (page) => {
      const { manager } = stage;
      const folder = await mkdtemp(join(tmpdir(), 'faas-examples-'));
      const port = String(manager.port);
      const examples = await runExamples(
        `docs/${page}.md`,
        folder,
        (script) => script.replaceAll('localhost:8080', `127.0.0.1:${port}`),
        { ...REQUESTS, timeoutMs: PATIENT.timeout },
      );
      const checked = examples.filter(({ shown }) => shown !== undefined);
      expect(checked.length).toBeGreaterThan(7);
      for (const { shown, printed } of checked) expect(printed).toMatch(patternOf(shown!));
      await rm(folder, { recursive: true });
      const functions = (await manager.send('/functions')).json() as { id: string }[];
      await Promise.all(functions.map(({ id }) => manager.remove(id)));
    });
  });
}

/** Undefined where packages can be had. */
async function whyUnreachable(): Promise<string | undefined> {
  try {
    const { status } = await fetch(`${index}/numpy/`, { method: 'HEAD', signal: AbortSignal.timeout(10_000) });
    return status === 200 ? undefined : `the package index answers ${status}`;
  } catch (error) {
    return `the package index can't be reached: ${error instanceof Error ? error.message : String(error)}`;
  }
}
