import { AppError } from '#libs/errors/app-error.js';

export class TooManyFollowers extends AppError {
  readonly code = 'too_many_followers';
  readonly kind = 'saturated';
  override readonly retryAfterSeconds = 10;
  constructor(followers: number, whose: string) {
    super(`${followers} clients follow ${whose} already, which is as many as there may be. Try again later.`);
  }
}
