// Whose an `authorization` is that comes to a VM's own host: Pitwall's, which no VM may see, or the VM's. Told by what it says and not by whether it
// is good: keys that the gateway has not heard of yet, or a clock that is behind, must not make a live token the VM's. No I/O.

/** Whole ones, and what has been one, wherever it stands. */
const apiToken = /(?<![\w-])pwt_|pwt_[0-9a-f]{16}_/i;
/** How the JSON of every JWT begins. */
const someJwt = /(?<![\w-])eyJ/;

/** Whether some of it may be Pitwall's, whose JWTs are of this issuer. What cannot be read is Pitwall's. */
export function isPitwalls(authorization: string, issuer: string): boolean {
  if (apiToken.test(authorization)) return true;
  const sections = authorization.split(/[^\w+/-]+/).map(jsonOf);
  if (sections.some((section) => isSame(section?.["iss"], issuer))) return true;
  if (!someJwt.test(authorization) || !/^bearer(?!\w)/i.test(authorization)) return false;
  const [, payload] = /^bearer +[\w-]+\.([\w-]+)\.[\w-]*$/i.exec(authorization) ?? [];
  return payload === undefined || !jsonOf(payload);
}

/** Of a section of a JWT; undefined for what is none. */
function jsonOf(section: string): Readonly<Record<string, unknown>> | undefined {
  if (!section.startsWith("e")) return undefined; // as `{` does
  try {
    const parsed: unknown = JSON.parse(Buffer.from(section, "base64url").toString());
    return typeof parsed === "object" && parsed !== null ? { ...parsed } : undefined;
  } catch {
    return undefined;
  }
}

function isSame(claimed: unknown, issuer: string): boolean {
  return typeof claimed === "string" && claimed.replace(/\/$/, "") === issuer.replace(/\/$/, "");
}
