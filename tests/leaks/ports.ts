// Ports by what listens there; all others are somebody's of the moment, and the same as each other.

export class Ports {
  readonly #names: ReadonlyMap<number, string>;

  constructor(ports: Readonly<Record<string, number>>) {
    this.#names = new Map(Object.entries(ports).map(([name, port]) => [port, name]));
  }

  has(port: number): boolean {
    return this.#names.has(port);
  }

  nameOf(port: number): string {
    return this.#names.get(port) ?? "*";
  }
}
