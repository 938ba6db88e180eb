/**
 * The system calls of a worker, in the form the engine takes with a container. All that isn't named is refused, so that
 * what kernels add later is refused, too.
 *
 * About as wide as engines' own profiles, so that ordinary programs run, and narrower where these vary or where a handler
 * has no use for what they let through: no io_uring, no keyrings, no BPF, no performance events, no user fault handling,
 * no looking into other processes, no local descriptor table, and sockets of four families only.
 */

/** The machines whose numbers and arguments the profile is written for, as an engine calls them. */
export const PROFILED_MACHINES: readonly string[] = ['x86_64', 'aarch64'];

const ALLOWED = `
  read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range dup dup2 dup3
  fcntl ioctl pipe pipe2 tee splice vmsplice sendfile copy_file_range readahead fadvise64 sync_file_range
  open openat openat2 creat truncate ftruncate fallocate fsync fdatasync sync syncfs flock

  stat lstat fstat newfstatat statx statfs fstatfs access faccessat faccessat2 readlink readlinkat getdents getdents64
  getcwd chdir fchdir mkdir mkdirat rmdir link linkat symlink symlinkat unlink unlinkat rename renameat renameat2 mknod
  mknodat chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat umask utime utimes utimensat futimesat
  getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr llistxattr flistxattr
  listxattrat removexattr lremovexattr fremovexattr removexattrat name_to_handle_at cachestat
  inotify_init inotify_init1 inotify_add_watch inotify_rm_watch

  select pselect6 poll ppoll epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait
  epoll_pwait2 eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime timerfd_gettime

  bind listen accept accept4 connect shutdown getsockname getpeername getsockopt setsockopt
  sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg

  mmap munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock munlockall brk membarrier memfd_create
  memfd_secret mseal map_shadow_stack pkey_alloc pkey_free pkey_mprotect remap_file_pages
  shmget shmat shmdt shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl
  mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr

  fork vfork execve execveat exit exit_group wait4 waitid kill tkill tgkill pidfd_open pidfd_send_signal process_mrelease
  getpid getppid gettid getpgid getpgrp getsid setpgid setsid prctl seccomp arch_prctl set_tid_address
  set_robust_list get_robust_list rseq uretprobe restart_syscall
  futex futex_waitv futex_wait futex_wake futex_requeue
  landlock_create_ruleset landlock_add_rule landlock_restrict_self

  rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigsuspend rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn
  sigaltstack pause alarm getitimer setitimer timer_create timer_settime timer_gettime timer_getoverrun timer_delete
  time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep times adjtimex clock_adjtime

  getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid setresgid
  setgroups setfsuid setfsgid capget capset
  getrlimit setrlimit getrusage getpriority ioprio_get
  sched_yield sched_getaffinity sched_getparam sched_getscheduler sched_getattr sched_get_priority_max sched_get_priority_min sched_rr_get_interval
  getcpu uname sysinfo getrandom
`;

/**
 * Sockets of the machine itself, of IPv4 and IPv6, and those by which libraries ask for addresses (netlink). Not among
 * them: those that lead to the hypervisor (AF_VSOCK), and the kernel's cryptography (AF_ALG).
 */
const FAMILIES = { unix: 1, inet: 2, inet6: 10, netlink: 16 } as const;

/** CLONE_NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWNS: no namespaces, which open much of the kernel. */
const NEW_NAMESPACES = 0x7e020000;

/** PER_LINUX and PER_LINUX32, each without and with UNAME26; and the question which it is. */
const PERSONALITIES = [0, 0x8, 0x20000, 0x20008, 0xffffffff];

/** The C library takes the older call when this is what a newer one answers, which hides its flags from filters. */
const NOT_IMPLEMENTED = 38;

type Comparison = 'SCMP_CMP_EQ' | 'SCMP_CMP_MASKED_EQ';

const allow = (...names: string[]) => ({ names, action: 'SCMP_ACT_ALLOW' });

/** Where the first argument is this. */
const allowWhere = (name: string, value: number, op: Comparison = 'SCMP_CMP_EQ') => ({
  ...allow(name),
  args: [{ index: 0, value, valueTwo: 0, op }],
});

/** Of the same user the kernel lets every process change every other one: these name it by their first argument. */
const OF_A_PROCESS = ['prlimit64', 'sched_setaffinity', 'sched_setparam', 'sched_setscheduler', 'sched_setattr'];

/**
 * Where a process is meant, by its number, and not the first of the container. The kernel looks at 32 bits of the number:
 * one of them differs. `kind` is the first argument then: PRIO_PROCESS, IOPRIO_WHO_PROCESS.
 */
function allowForOthers(name: string, kind?: number) {
  const isKind = kind === undefined ? [] : [{ index: 0, value: kind, valueTwo: 0, op: 'SCMP_CMP_EQ' }];
  return Array.from({ length: 32 }, (_, bit) => {
    const process = { index: isKind.length, value: 2 ** bit, valueTwo: bit === 0 ? 0 : 2 ** bit };
    return { ...allow(name), args: [...isKind, { ...process, op: 'SCMP_CMP_MASKED_EQ' }] };
  });
}

/** A JSON document. Kernels and engines that don't know a name ignore it. */
export const SECCOMP_PROFILE = JSON.stringify({
  defaultAction: 'SCMP_ACT_ERRNO',
  // Nothing beside 64 bits: the 32 bits of the same processors have one call for all kinds of sockets (socketcall), whose
  // arguments no filter sees.
  archMap: [
    { architecture: 'SCMP_ARCH_X86_64', subArchitectures: [] },
    { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: [] },
  ],
  syscalls: [
    allow(...ALLOWED.trim().split(/\s+/)),
    ...Object.values(FAMILIES).map((family) => allowWhere('socket', family)),
    allowWhere('socketpair', FAMILIES.unix),
    ...PERSONALITIES.map((personality) => allowWhere('personality', personality)),
    allowWhere('clone', NEW_NAMESPACES, 'SCMP_CMP_MASKED_EQ'),
    ...OF_A_PROCESS.flatMap((name) => allowForOthers(name)),
    ...allowForOthers('setpriority', 0),
    ...allowForOthers('ioprio_set', 1),
    { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: NOT_IMPLEMENTED },
  ],
});
