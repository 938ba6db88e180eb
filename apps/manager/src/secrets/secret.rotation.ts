import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { StepSlots } from '../functions/inline-reconciler.js';
import { Keyring } from './keyring.js';
import { type SealedSecret, SecretRepository } from './secret.repository.js';

const AT_ONCE = 50;
const PAUSE_MS = 5_000;

/**
 * Says at boot which secrets this manager can't read, and encrypts anew what another key than the first has encrypted.
 * A value stays what it is, so that no function is touched. Any number of managers may do it at once; one that others
 * with newer settings have taken functions over from leaves it to them, or two with other keys would never end.
 */
@Injectable()
export class SecretRotation implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly unreadable = new Set<string>();
  private timer: NodeJS.Timeout | undefined;
  private looking: Promise<void> = Promise.resolve();
  private isOver = false;

  constructor(
    private readonly repository: SecretRepository,
    private readonly keyring: Keyring,
    private readonly slots: StepSlots,
    @InjectPinoLogger(SecretRotation.name) private readonly logger: PinoLogger,
  ) {}

  onApplicationBootstrap(): void {
    this.look(true);
  }

  async onApplicationShutdown(): Promise<void> {
    this.isOver = true;
    clearTimeout(this.timer);
    await this.looking;
  }

  private look(isFirst: boolean): void {
    this.looking = this.round(isFirst)
      .then(() => false)
      .catch((error: unknown) => {
        if (error instanceof DatabaseUnavailable) this.logger.debug({ reason: error.message }, 'secrets not looked at');
        else this.logger.error({ err: error }, 'secrets not looked at');
        return isFirst;
      })
      .then((again) => {
        if (!this.isOver) this.timer = setTimeout(() => this.look(again), PAUSE_MS).unref();
      });
  }

  private async round(isFirst: boolean): Promise<void> {
    const { primaryId } = this.keyring;
    const maySeal = primaryId !== undefined && !this.slots.isOutdated;
    if (!isFirst && !maySeal) return;
    let resealed = 0;
    for (let after = ''; !this.isOver;) {
      const some = await this.repository.sealedAfter(after, AT_ONCE, isFirst ? null : (primaryId ?? null));
      for (const one of some) if ((await this.renew(one, maySeal)) === 'resealed') resealed += 1;
      const last = some.at(-1);
      if (last === undefined) break;
      after = last.name;
    }
    if (resealed > 0) this.logger.info({ secrets: resealed, key: primaryId }, 'secrets encrypted with the first key');
  }

  private async renew(sealed: SealedSecret, maySeal: boolean): Promise<'resealed' | 'left'> {
    const { name, keyId } = sealed;
    let value: string;
    try {
      value = this.keyring.open(sealed, sealed);
    } catch (error) {
      const known = `${name} ${keyId}`;
      if (!this.unreadable.has(known)) {
        const reason = (error as Error).message;
        this.logger.error(
          { secret: name, key: keyId, reason },
          'a secret can’t be read: functions that use it can’t start',
        );
      }
      this.unreadable.add(known);
      return 'left';
    }
    if (!maySeal || keyId === this.keyring.primaryId) return 'left';
    return (await this.repository.reseal(sealed, this.keyring.seal(value, sealed))) ? 'resealed' : 'left';
  }
}
