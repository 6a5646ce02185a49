/** Lines of what grows, each looked at once. */
import { closeSync, openSync, readSync } from 'node:fs';

/** Events of `ctr events`, by the containers that they name. */
export class EventLines {
  readonly #byId = new Map<string, string[]>();
  #rest = '';

  add(chunk: string): void {
    const lines = (this.#rest + chunk).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines)
      for (const id of new Set(line.match(/\bwt-[\w-]+/g) ?? [])) {
        const known = this.#byId.get(id) ?? [];
        known.push(line);
        this.#byId.set(id, known);
      }
  }

  /** Every line that names it. */
  of(id: string): readonly string[] {
    return this.#byId.get(id) ?? [];
  }
}

/** What wherryd's log says of its life. */
export class LifeLog {
  /** Wherryds that have ended. */
  deaths = 0;
  /** The last one that was started has been ready, and has not ended. */
  ready = false;
  readonly #path: string;
  #at = 0;
  #rest = '';

  constructor(path: string) {
    this.#path = path;
  }

  look(): this {
    const fd = openSync(this.#path, 'r');
    const buffer = Buffer.alloc(1 << 16);
    for (let n = readSync(fd, buffer, 0, buffer.length, this.#at); n > 0; ) {
      this.#at += n;
      const lines = (this.#rest + buffer.toString('latin1', 0, n)).split('\n');
      this.#rest = lines.pop() ?? '';
      for (const line of lines) this.#note(line);
      n = readSync(fd, buffer, 0, buffer.length, this.#at);
    }
    closeSync(fd);
    return this;
  }

  #note(line: string): void {
    if (line.includes('msg="wherryd ended"')) {
      this.deaths++;
      this.ready = false;
    } else if (line.includes('msg="wherryd is ready"')) this.ready = true;
  }
}
