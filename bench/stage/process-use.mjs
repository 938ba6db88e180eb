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
