/** Values of flags after parsing, read by name and type. An empty text counts as not given, as in runc. */
export type FlagValue = boolean | string | number | string[];

export class FlagValues {
  readonly #values = new Map<string, FlagValue>();

  set(name: string, value: FlagValue): void {
    this.#values.set(name, value);
  }

  append(name: string, value: string): void {
    const before = this.#values.get(name);
    if (Array.isArray(before)) before.push(value);
    else this.#values.set(name, [value]);
  }

  on(name: string): boolean {
    return this.#values.get(name) === true;
  }

  text(name: string): string | undefined {
    const value = this.#values.get(name);
    return typeof value === 'string' && value !== '' ? value : undefined;
  }

  integer(name: string): number | undefined {
    const value = this.#values.get(name);
    return typeof value === 'number' ? value : undefined;
  }

  list(name: string): readonly string[] {
    const value = this.#values.get(name);
    return Array.isArray(value) ? value : [];
  }

  /** Names of all flags that were given. */
  names(): string[] {
    return [...this.#values.keys()];
  }
}
