import type { Logger } from 'pino';
import type { DockerConfig } from '#libs/config/config.js';
import type { DockerEngine, EngineDescription } from './docker-engine.js';
import { PROFILED_MACHINES, SECCOMP_PROFILE } from './seccomp-profile.js';

/** Which filter of system calls workers of an engine get. */
export type Filter =
  | { readonly kind: 'own'; readonly profile: string }
  | { readonly kind: 'engine' }
  /** Handlers may use every system call, or the engine refuses ours. */
  | { readonly kind: 'missing'; readonly why: string };

/** An engine that can't filter refuses containers with a profile, so that it gets none. */
export function chooseFilter(configured: DockerConfig['seccomp'], engine: EngineDescription): Filter {
  const filters = engine.securityOptions.find((option) => /(^|,)name=seccomp(,|$)/.test(option));
  if (filters === undefined) {
    return { kind: 'missing', why: 'the engine or its kernel can’t filter system calls (seccomp)' };
  }
  if (configured === 'engine') {
    return /(^|,)profile=unconfined(,|$)/.test(filters)
      ? { kind: 'missing', why: 'the engine’s own profile is set to "unconfined"' }
      : { kind: 'engine' };
  }
  if (!PROFILED_MACHINES.includes(engine.machine)) {
    return { kind: 'missing', why: `there is no profile for ${engine.machine}, only the engine’s own` };
  }
  return { kind: 'own', profile: SECCOMP_PROFILE };
}

/** The filter of system calls, found out once from the engine. */
export class WorkerSeccomp {
  private known: Promise<string | undefined> | undefined;

  constructor(
    private readonly engine: DockerEngine,
    private readonly configured: DockerConfig['seccomp'],
    private readonly logger: Logger,
  ) {}

  /** A profile as JSON; undefined for what the engine does by itself. Asks again after a failure. */
  profile(): Promise<string | undefined> {
    if (this.known === undefined) {
      // Shared by all callers, so no single one's signal may end it; the engine's call has a deadline of its own.
      const asking = this.ask(new AbortController().signal);
      this.known = asking;
      asking.catch(() => {
        if (this.known === asking) this.known = undefined;
      });
    }
    return this.known;
  }

  private async ask(signal: AbortSignal): Promise<string | undefined> {
    const filter = chooseFilter(this.configured, await this.engine.describe(signal));
    if (filter.kind === 'missing')
      this.logger.warn({ why: filter.why }, 'workers run without the manager’s system call filter');
    return filter.kind === 'own' ? filter.profile : undefined;
  }
}
