// What a registry asks for in `WWW-Authenticate` (RFC 9110 section 11.6.1, distribution token specification).

export interface Challenge {
  /** Lower case. */
  readonly scheme: string;
  /** Names in lower case. */
  readonly fields: ReadonlyMap<string, string>;
}

const maxLength = 8192;
const token = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+/;

/** All challenges of a header, in order; what cannot be understood ends the list. */
export function parseChallenges(header: string): Challenge[] {
  const challenges: { scheme: string; fields: Map<string, string> }[] = [];
  let rest = header.slice(0, maxLength);
  for (;;) {
    rest = rest.replace(/^[\s,]+/, "");
    const word = token.exec(rest)?.[0];
    if (word === undefined) return challenges;
    rest = rest.slice(word.length);
    const value = /^\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))/.exec(rest);
    const current = challenges.at(-1);
    if (value && current) {
      current.fields.set(word.toLowerCase(), (value[1] ?? value[2] ?? "").replaceAll(/\\(.)/g, "$1"));
      rest = rest.slice(value[0].length);
    } else if (value) return challenges;
    else challenges.push({ scheme: word.toLowerCase(), fields: new Map() });
  }
}
