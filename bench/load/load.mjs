import { Child } from '../stage/child.mjs';

/** The process that sends calls. */
export class Load {
  #child = Child.module(new URL('load-process.mjs', import.meta.url));

  /** Runs one round; rounds run one after the other. */
  async round(job) {
    const { result, error } = await this.#child.ask('The load process', job);
    if (error !== undefined) throw new Error(error);
    return result;
  }

  end() {
    return this.#child.end();
  }
}
