// Repeats a piece of work: at its pace while all is well, ever more slowly while it fails, not at all while nobody looks.

const running = new Set();

/** Work that is done now and then again every `seconds`. */
export class Poll {
  #work;
  #fail;
  #seconds;
  #timer = null;
  #abort = null;
  #failures = 0;

  /** `work(signal)` may throw; `fail(error)` shows it, and the work is tried again, later each time. */
  constructor(seconds, work, fail) {
    this.#seconds = seconds;
    this.#work = work;
    this.#fail = fail;
  }

  start() {
    running.add(this);
    this.now();
    return this;
  }

  stop() {
    running.delete(this);
    this.rest();
  }

  /** Does the work at once, in place of what is under way. */
  async now() {
    this.rest();
    if (!running.has(this) || document.hidden) return;
    const abort = new AbortController();
    this.#abort = abort;
    try {
      await this.#work(abort.signal);
      this.#failures = 0;
    } catch (error) {
      if (abort.signal.aborted) return;
      this.#failures += 1;
      this.#fail(error);
    }
    if (!abort.signal.aborted) this.#timer = setTimeout(() => this.now(), this.#wait() * 1000);
  }

  /** Does nothing until `now`. */
  rest() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = null;
  }

  #wait() {
    return Math.max(this.#seconds, Math.min(this.#seconds * 2 ** this.#failures, LONGEST_SECONDS));
  }
}

/** Does all running work at once. */
export function pollAll() {
  for (const poll of running) poll.now();
}

document.addEventListener("visibilitychange", () => {
  for (const poll of running) {
    if (document.hidden) poll.rest();
    else poll.now();
  }
});

const LONGEST_SECONDS = 30;
