import { AppError } from '#libs/errors/app-error.js';

/** `field` is the member at fault, `name` for the path's, `body` for all of it. */
export class InvalidSchedule extends AppError {
  readonly code = 'invalid_schedule';
  readonly kind = 'invalid';
  constructor(field: string, message: string) {
    super(message, { extras: { field } });
  }
}

export class ScheduleNotFound extends AppError {
  readonly code = 'schedule_not_found';
  readonly kind = 'not_found';
  constructor(reference: string, name: string) {
    super(`Function ${reference.slice(0, 64)} has no schedule ${JSON.stringify(name.slice(0, 64))}.`);
  }
}

export class TooManySchedules extends AppError {
  readonly code = 'too_many_schedules';
  readonly kind = 'conflict';
  constructor(whose: string, most: number, variable: string) {
    super(`${whose} ${most} schedules, which is as many as there may be (${variable}). Remove one first.`);
  }
}

/** Another version is there than `If-Match` names; undefined: none is. */
export class ScheduleOutdated extends AppError {
  readonly code = 'version_outdated';
  readonly kind = 'precondition_failed';
  constructor(name: string, version: number | undefined) {
    super(
      version === undefined
        ? `There is no schedule ${name}: leave If-Match out to make it.`
        : `Schedule ${name} has changed: its ETag is "${version}" now. Read it again, then decide.`,
    );
  }
}
