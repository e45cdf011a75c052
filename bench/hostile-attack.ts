// What an attack is given, and what it counts.

/** Where an attack goes, as it is sent to the process that makes it. */
export interface Target {
  readonly port: number;
  /** Addresses of this machine that it comes from, in turn. */
  readonly sources: readonly string[];
  /** A user's, who means harm. */
  readonly token: string;
  /** Of the SSH door: a user there, and the file of the private key. */
  readonly username: string;
  readonly key: string;
}

export interface Attack extends Target {
  /** Aborted when it is to end. */
  readonly signal: AbortSignal;
  /** Called once it has begun in earnest. */
  begun(): void;
  readonly did: {
    connections: number;
    /** Of what it is made of: requests, frames, passwords. */
    sent: number;
  };
}

/** One connection after the other, on so many at once. `visit` resolves when one is over, and never rejects. */
export async function again(attack: Attack, atOnce: number, visit: (source: string) => Promise<void>): Promise<void> {
  const { sources, signal, did } = attack;
  const lane = async (_: unknown, at: number): Promise<void> => {
    while (!signal.aborted) {
      await visit(sources[at % sources.length] ?? "127.0.0.1");
      did.connections++;
      attack.begun();
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
}
