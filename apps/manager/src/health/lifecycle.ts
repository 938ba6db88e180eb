import { Injectable } from '@nestjs/common';

/** Whether this manager is leaving; set once, at the start of shutdown. */
@Injectable()
export class Lifecycle {
  private leaving = false;

  get draining(): boolean {
    return this.leaving;
  }

  drain(): void {
    this.leaving = true;
  }
}
