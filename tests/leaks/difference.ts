// What is there that was not, and what is not there any more: lists as multisets, each under the name of what it lists.

export type Lists = Readonly<Record<string, readonly string[]>>;

/** One line for each difference, such as `files: +node/vms/x` or `fds: -controller: a pipe (2)`. Empty: none. */
export function difference(before: Lists, after: Lists): string[] {
  const kinds = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...kinds].flatMap((kind) => {
    const counts = new Map<string, number>();
    for (const line of after[kind] ?? []) counts.set(line, (counts.get(line) ?? 0) + 1);
    for (const line of before[kind] ?? []) counts.set(line, (counts.get(line) ?? 0) - 1);
    return [...counts].flatMap(([line, count]) => (count === 0 ? [] : [`${kind}: ${worded(line, count)}`]));
  });
}

function worded(line: string, count: number): string {
  const times = Math.abs(count) === 1 ? "" : ` (${Math.abs(count)})`;
  return `${count > 0 ? "+" : "-"}${line}${times}`;
}

/** What the system is made of: it must still be there. All else may go, and much of it is somebody else's: idle connections, neighbours, control groups. */
const lasting =
  /^(?:processes|files|rows|sums|rules|links|routes|mounts|namespaces): -|^(?:descriptors|sockets): -.* (?:listening|LISTEN|UNCONN)/;
const passing = /^processes: -postgres: a connection/;

/** Whether a difference is amiss: something more than before, or less of what must last. */
export function isAmiss(line: string): boolean {
  return /^\w+: \+/.test(line) || (lasting.test(line) && !passing.test(line));
}
