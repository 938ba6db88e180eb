/** Everything that was started and how to end it, the last first; whatever happens, it is done once. */
export class Undo {
  #steps = [];
  #done;

  get begun() {
    return this.#done !== undefined;
  }

  /** Keeps a step for the end; what is started while everything is being ended is ended at once. */
  async add(step) {
    if (!this.begun) {
      this.#steps.push(step);
      return;
    }
    await step();
    throw new Error('It is being ended.');
  }

  /** Ends something before everything else is ended. */
  async now(step) {
    const index = this.#steps.indexOf(step);
    if (index >= 0) this.#steps.splice(index, 1);
    await step();
  }

  all() {
    this.#done ??= this.#run();
    return this.#done;
  }

  async #run() {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step();
      } catch (error) {
        console.error(`✗ Something that was started may be left: ${error.message}`);
        process.exitCode = 1;
      }
    }
  }
}
