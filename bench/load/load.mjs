import { Child } from '../stage/child.mjs';

/** The process that sends calls. */
export class Load {
  #child = Child.module(new URL('load-process.mjs', import.meta.url));

  /**
   * Runs one round; rounds run one after the other. `tolerant`: answers of every kind are counted instead of being a
   * failure; `pauseMs`: how long each connection waits after an answer.
   */
  async round(job) {
    const { result, error } = await this.#child.ask('The load process', job);
    if (error !== undefined) throw new Error(error);
    return result;
  }

  /** Lets the round under way come to its end early. */
  stop() {
    this.#child.tell('stop');
  }

  end() {
    return this.#child.end();
  }
}
