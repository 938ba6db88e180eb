import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { inject } from 'vitest';
import type { TestProject } from 'vitest/node';
import { ControlPlane } from './control-plane.js';
import { type Load, Metrics } from './metrics.js';
import { PodNetwork } from './pod-network.js';
import { missingProgram } from './programs.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** Where this run's control plane is asked for. */
    controlPlane: string;
  }
}

/** What a suite needs to bring a node of its own to the control plane. */
export interface ControlPlaneAccess {
  /** The administrator's kubeconfig. */
  readonly kubeconfig: string;
  readonly certificate: { readonly cert: string; readonly key: string };
  /** The first three numbers of the node's addresses, which no other node has. */
  readonly addresses: string;
}

/** Starts one control plane for all test files of a project, when the first of them asks for it. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  let opened: ReturnType<typeof open> | undefined;
  const server = createServer((request, response) => {
    opened ??= open();
    Promise.all([opened, text(request)])
      .then(([{ plane, network, metrics }, body]) => {
        if (request.method === 'POST') {
          metrics.set(JSON.parse(body) as Load);
          response.end('{}');
          return;
        }
        const { certificate, admin } = plane;
        const access = { kubeconfig: admin.exportConfig(), certificate, addresses: network.next() };
        response.end(JSON.stringify(access satisfies ControlPlaneAccess));
      })
      .catch((error: unknown) => response.writeHead(500).end(String(error)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  project.provide('controlPlane', `http://127.0.0.1:${(server.address() as { port: number }).port}`);
  return async () => {
    server.close();
    server.closeAllConnections();
    const parts = await opened?.catch(() => undefined);
    parts?.metrics.stop();
    await parts?.plane.stop();
  };
}

async function open() {
  const network = PodNetwork.open();
  const plane = await ControlPlane.start();
  const metrics = await Metrics.start(plane.admin, plane.certificate);
  return { network, plane, metrics };
}

/** Why there can be no control plane here; undefined when there can. With REQUIRE_KUBERNETES=1 suites run in any case. */
export function whyNoControlPlane(): string | undefined {
  if (process.env['REQUIRE_KUBERNETES'] === '1') return undefined;
  const program = missingProgram();
  const reason = program === undefined ? PodNetwork.whyNot() : `${program} is missing`;
  if (reason !== undefined) process.stderr.write(`skipped: no control plane: ${reason}\n`);
  return reason;
}

/** For suites: the first call of all may take as long as a control plane takes to start. */
export async function controlPlane(): Promise<ControlPlaneAccess> {
  return (await ask()) as ControlPlaneAccess;
}

export async function setLoad(load: Load): Promise<void> {
  await ask({ method: 'POST', body: JSON.stringify(load) });
}

async function ask(init?: RequestInit): Promise<unknown> {
  const response = await fetch(inject('controlPlane'), init);
  if (!response.ok) throw new Error(`There is no control plane: ${await response.text()}`);
  return response.json();
}
