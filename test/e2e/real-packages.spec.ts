import { expect, it } from 'vitest';
import { loadConfig } from '#libs/config/load-config.js';
import { describeOnEachLocalEngine } from '../support/engines.js';
import { describeSkipped } from '../support/skipped.js';
import { Stage } from '../support/stage.js';

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
