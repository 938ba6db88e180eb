import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import Docker from 'dockerode';
import { pack } from 'tar-stream';
import { say, step } from './progress.mjs';

const PING_MS = 3_000;
const STUCK_MS = 120_000;
const IMAGE = 'faas-worker:local';
const BUILDER = 'faas-builder:local';
const LOCAL_BASE = 'faas-base-python:local';
const SOURCES_LABEL = 'service-faas.worker-sources';
const LEFT_OUT = /(^|\/)(__pycache__|tests|\.pytest_cache|\.ruff_cache)(\/|$)/;

/** What the manager gets as DEPLOYMENT_ENV, with the worker's image there for Docker; undefined lets it choose. */
export async function prepareEngine(root) {
  const asked = process.env.DEPLOYMENT_ENV;
  if (asked && asked !== 'docker') return asked;
  if (process.env.KUBERNETES_SERVICE_HOST) return undefined;
  const docker = new Docker();
  // Where Docker was asked for, the manager says best what is wrong with it.
  const fault = await faultOf(docker);
  if (fault !== undefined) {
    if (asked) return asked;
    if (/EACCES|permission denied/i.test(fault)) {
      throw new Error(
        `The Docker engine refuses this user (${fault}): add the user to the group of its socket, or ask for plain processes with DEPLOYMENT_ENV=process.`,
      );
    }
    say(`• No Docker engine answers (${fault}): functions run as plain processes, fine for trying out, not isolated.`);
    return 'process';
  }
  if (process.env.WORKER_IMAGE) return asked;
  try {
    await ensureImage(docker, join(root, 'apps', 'worker'), IMAGE);
    await ensureBuilder(docker, join(root, 'apps', 'worker'));
    return asked;
  } catch (error) {
    const reason = String(error.message).trim().split('\n').at(-1);
    if (asked) throw new Error(`The worker's image can't be built: ${reason}`, { cause: error });
    say(`• The worker's image can't be built (${reason}): functions run as plain processes instead.`);
    return 'process';
  }
}

/** Undefined when the engine answers. */
async function faultOf(docker) {
  const late = new Promise((resolve) => setTimeout(resolve, PING_MS, `no answer within ${PING_MS} ms`).unref());
  return Promise.race([
    docker.ping().then(
      () => undefined,
      (error) => error.message,
    ),
    late,
  ]);
}

/** Functions without requirements don't need it. */
async function ensureBuilder(docker, folder) {
  try {
    await ensureImage(docker, folder, BUILDER, 'builder.Dockerfile');
  } catch (error) {
    const reason = String(error.message).trim().split('\n').at(-1);
    say(`• The image that builds packages can't be built (${reason}): functions can't have requirements.`);
  }
}

/** Builds the worker's image, or another one of its folder, unless it is there already. */
export async function ensureImage(docker, folder, image, file = 'Dockerfile') {
  const files = sources(folder);
  const hash = hashOf(files);
  const found = await docker.getImage(image).inspect().catch(ignoreMissing);
  const label = found?.Config.Labels?.[SOURCES_LABEL];
  // An image without our label was built by hand, and is whoever built it's to update.
  if (found !== undefined && (label === undefined || label === hash)) return;
  const dockerfile = files.find(({ name }) => name === file);
  if (dockerfile === undefined) throw new Error(`apps/worker/${file} is missing`);
  const argument = /^ARG\s+(\w+)=(\S+)/m.exec(dockerfile.content.toString('utf8'));
  const base = await chooseBase(docker, argument?.[2]);
  await step(`building ${image}${base === undefined ? '' : ` on ${base}`}`, async () => {
    const stream = await docker.buildImage(archive(files), {
      t: image,
      dockerfile: file,
      version: '1',
      rm: true,
      forcerm: true,
      labels: { [SOURCES_LABEL]: hash },
      ...(base === undefined || argument === null ? {} : { buildargs: { [argument[1]]: base } }),
      ...(process.env.DOCKER_BUILD_NETWORK ? { networkmode: process.env.DOCKER_BUILD_NETWORK } : {}),
    });
    await follow(docker, stream);
  });
}

/** The base asked for; else the pinned public one, or one made on this machine where that isn't here yet. */
async function chooseBase(docker, pinned) {
  if (process.env.WORKER_BASE_IMAGE) return process.env.WORKER_BASE_IMAGE;
  const isHere = async (name) => (await docker.getImage(name).inspect().catch(ignoreMissing)) !== undefined;
  if (pinned !== undefined && (await isHere(pinned))) return pinned;
  return (await isHere(LOCAL_BASE)) ? LOCAL_BASE : pinned;
}

/** Shows the steps; a pull that no longer moves, on a machine without a way out, ends the build. */
function follow(docker, stream) {
  return new Promise((resolve, reject) => {
    const stuck = () => stream.destroy(new Error(`the build made no progress for ${STUCK_MS / 1000} s`));
    let timer = setTimeout(stuck, STUCK_MS);
    const finished = (error, events) => {
      clearTimeout(timer);
      const failed = events?.find((event) => event.error !== undefined);
      if (error || failed) reject(error ?? new Error(failed.error));
      else resolve();
    };
    stream.on('error', reject);
    docker.modem.followProgress(stream, finished, ({ stream: line = '' }) => {
      clearTimeout(timer);
      timer = setTimeout(stuck, STUCK_MS);
      if (/^Step \d+/.test(line)) say(`  ${line.trim().replaceAll(/\s+/g, ' ').slice(0, 110)}`);
    });
  });
}

function sources(folder) {
  const names = readdirSync(folder, { recursive: true }).map((name) => String(name).replaceAll('\\', '/'));
  return names
    .filter((name) => !LEFT_OUT.test(name) && statSync(join(folder, name)).isFile())
    .toSorted()
    .map((name) => ({ name, content: readFileSync(join(folder, name)) }));
}

function hashOf(files) {
  const hash = createHash('sha256');
  for (const { name, content } of files) hash.update(`${name}\0${content.length}\0`).update(content);
  return hash.digest('hex');
}

function archive(files) {
  const tar = pack();
  for (const { name, content } of files) tar.entry({ name, mode: 0o644 }, content);
  tar.finalize();
  return tar;
}

function ignoreMissing(error) {
  if (error.statusCode === 404) return undefined;
  throw error;
}
