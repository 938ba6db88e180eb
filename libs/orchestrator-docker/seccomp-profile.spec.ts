import { describe, expect, it } from 'vitest';
import { SECCOMP_PROFILE } from './seccomp-profile.js';

interface Rule {
  readonly names: readonly string[];
  readonly action: string;
  readonly args?: readonly {
    readonly index: number;
    readonly value: number;
    readonly valueTwo?: number;
    readonly op: string;
  }[];
}

const profile = JSON.parse(SECCOMP_PROFILE) as {
  readonly defaultAction: string;
  readonly archMap: readonly { readonly architecture: string; readonly subArchitectures: readonly string[] }[];
  readonly syscalls: readonly Rule[];
};
const allowing = profile.syscalls.filter(({ action }) => action === 'SCMP_ACT_ALLOW');
const allowed = new Set(allowing.flatMap(({ names }) => names));
const always = new Set(allowing.filter(({ args }) => args === undefined).flatMap(({ names }) => names));

describe('the workers’ seccomp profile', () => {
  it('refuses what it does not name', () => {
    expect(profile.defaultAction).toBe('SCMP_ACT_ERRNO');
  });

  it.each([
    ['io_uring', 'io_uring_setup io_uring_enter io_uring_register'],
    ['keyrings', 'add_key request_key keyctl'],
    ['programs in the kernel', 'bpf perf_event_open userfaultfd init_module finit_module delete_module kexec_load'],
    ['other processes', 'ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp'],
    ['namespaces and mounts', 'unshare setns mount umount2 pivot_root chroot fsopen fsmount move_mount open_tree'],
    ['the host', 'reboot swapon swapoff sethostname setdomainname settimeofday clock_settime acct syslog quotactl'],
    ['handles and hardware', 'open_by_handle_at fanotify_init iopl ioperm modify_ldt mbind set_mempolicy'],
    ['a call for all kinds of sockets', 'socketcall ipc'],
  ])('lets nobody use %s', (_, names) => {
    for (const name of names.split(' ')) expect(allowed, name).not.toContain(name);
  });

  it('opens sockets of the machine, of the internet and of netlink only', () => {
    const of = (call: string) => allowing.filter(({ names }) => names.includes(call));
    expect(always).not.toContain('socket');
    expect(of('socket').map(({ args }) => args?.map(({ index, value, op }) => [index, value, op]))).toEqual(
      [1, 2, 10, 16].map((family) => [[0, family, 'SCMP_CMP_EQ']]),
    );
    expect(of('socketpair').map(({ args }) => args?.[0]?.value)).toEqual([1]);
  });

  it('makes threads and processes, but no namespaces', () => {
    expect(always).not.toContain('clone');
    expect(allowing.find(({ names }) => names.includes('clone'))?.args).toEqual([
      { index: 0, value: 0x7e020000, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' },
    ]);
    expect(profile.syscalls.filter(({ names }) => names.includes('clone3'))).toEqual([
      { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 },
    ]);
  });

  it('keeps processes from changing the first one of their container, and no other', () => {
    const changes = (name: string, ...args: number[]) =>
      always.has(name) ||
      profile.syscalls.some(
        (rule) =>
          rule.names.includes(name) &&
          rule.args!.every(({ index, value, valueTwo, op }) => {
            const given = BigInt(args[index]!);
            return op === 'SCMP_CMP_EQ' ? given === BigInt(value) : (given & BigInt(value)) === BigInt(valueTwo!);
          }),
      );
    for (const name of 'prlimit64 sched_setaffinity sched_setparam sched_setscheduler sched_setattr'.split(' ')) {
      expect([0, 2, 3, 65_537, 2 ** 31].map((pid) => changes(name, pid))).toEqual(Array(5).fill(true));
      expect([1, 2 ** 32 + 1].map((pid) => changes(name, pid))).toEqual([false, false]);
    }
    const [ofProcess, ofUser] = [0, 2];
    expect([0, 7].map((pid) => changes('setpriority', ofProcess, pid))).toEqual([true, true]);
    expect(changes('setpriority', ofProcess, 1)).toBe(false);
    expect(changes('setpriority', ofUser, 0)).toBe(false);
    expect([changes('ioprio_set', 1, 7), changes('ioprio_set', 1, 1), changes('ioprio_set', 3, 7)]).toEqual([
      true,
      false,
      false,
    ]);
  });

  it('knows two architectures, and nothing that these run besides', () => {
    expect(profile.archMap.map(({ architecture }) => architecture)).toEqual(['SCMP_ARCH_X86_64', 'SCMP_ARCH_AARCH64']);
    expect(profile.archMap.flatMap(({ subArchitectures }) => subArchitectures)).toEqual([]);
  });

  it('names every call once', () => {
    const names = allowing.filter(({ args }) => args === undefined).flatMap((rule) => rule.names);
    expect(names.filter((name, at) => names.indexOf(name) !== at)).toEqual([]);
    for (const name of names) expect(name).toMatch(/^[a-z0-9_]+$/);
  });
});
