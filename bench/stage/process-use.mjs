import { readdir, readFile } from 'node:fs/promises';

/** Linux's unit of processor time in /proc. */
const MICROSECONDS_PER_TICK = 10_000;

/** The processor time a process has used, in microseconds; undefined where the system doesn't say. */
export async function cpuMicroseconds(pid) {
  try {
    const tasks = await readdir(`/proc/${pid}/task`);
    const times = await Promise.all(tasks.map((task) => readFile(`/proc/${pid}/task/${task}/schedstat`, 'utf8')));
    return times.reduce((sum, text) => sum + Number(text.split(' ', 1)[0]) / 1000, 0);
  } catch {
    return undefined;
  }
}

/** The memory that a process keeps, with its part of what it shares; undefined where the system doesn't say. */
export async function memoryBytes(pid) {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '');
  const kilobytes = /^Pss:\s+(\d+) kB$/m.exec(text)?.[1];
  return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
}

/** The processor time of a process and of all that it has started, those that have ended included, in microseconds. */
export async function familyMicroseconds(pid) {
  const all = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const stats = await Promise.all(all.map((name) => readFile(`/proc/${name}/stat`, 'utf8').catch(() => '')));
  // After the name in brackets: state, parent, and further on user, system, and the same of children that have ended.
  const fields = stats
    .filter(Boolean)
    .map((text) => [text.split(' ', 1)[0], ...text.slice(text.lastIndexOf(')') + 2).split(' ')]);
  const own = fields.find(([name]) => Number(name) === pid);
  const children = fields.filter(([, , parent]) => Number(parent) === pid);
  const ticks = [own ?? [], ...children].flatMap((one) => [
    one[12],
    one[13],
    ...(one === own ? [one[14], one[15]] : []),
  ]);
  return ticks.reduce((sum, count) => sum + Number(count ?? 0), 0) * MICROSECONDS_PER_TICK;
}

/** Open files and sockets; undefined where the system doesn't say. */
export async function openFiles(pid) {
  return readdir(`/proc/${pid}/fd`).then(
    (files) => files.length,
    () => undefined,
  );
}

/** Processes whose environment, as it was when they were started, is like that. */
export async function processesWhere(matches) {
  const pids = (await readdir('/proc').catch(() => [])).filter((name) => /^\d+$/.test(name));
  const environments = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')));
  return pids.filter((_, index) => matches(environments[index])).map(Number);
}
