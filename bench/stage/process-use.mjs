import { readdir, readFile } from 'node:fs/promises';

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
