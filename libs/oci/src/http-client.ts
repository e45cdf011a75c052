// One HTTP request at a time with Node's own client: which addresses may be connected to, and how long silence is borne.
import { lookup } from "node:dns";
import { Agent as HttpAgent, request as requestHttp, type ClientRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as requestHttps, type AgentOptions } from "node:https";
import { pipeline, Readable } from "node:stream";
import { rootCertificates } from "node:tls";
import { isPrivateAddress } from "@pitwall/runtime";

export interface HttpRequest {
  /** Connects to public addresses alone. Over plain HTTP it says nothing: who allows that trusts the host. */
  readonly isGuarded: boolean;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Of a stream, the headers tell the length. */
  readonly body?: Readable | Buffer | string | undefined;
  readonly signal: AbortSignal;
}

export interface HttpClient {
  /** The answer, whatever its status, and no redirect followed. Its body fails when it is cut, or silent for too long. */
  request(url: URL, request: HttpRequest): Promise<IncomingMessage>;
}

export interface HttpClientOptions {
  /** PEM, besides those that Node knows. */
  readonly certificates: string | undefined;
  /** The error for a host that has no address but private ones. */
  readonly refused: (hostname: string) => Error;
  /** Until there is a connection. */
  readonly connectMs?: number;
  /** Between two bytes, in either direction. */
  readonly silenceMs?: number;
}

export function openHttpClient({ certificates, refused, connectMs = 10_000, silenceMs = 60_000 }: HttpClientOptions): HttpClient {
  const common: AgentOptions = { keepAlive: true, timeout: silenceMs, autoSelectFamily: true };
  const https = { ...common, ...(certificates !== undefined && { ca: [...rootCertificates, certificates] }) };
  const plain = new HttpAgent(common);
  const trusting = new HttpsAgent(https);
  // The address is judged where the connection is made, so that a name cannot answer differently the second time.
  const guarded = new HttpsAgent({ ...https, lookup: guardedLookup(refused) });
  return {
    request(url, { isGuarded, method, headers, body, signal }) {
      const options = { method, headers, signal, timeout: connectMs };
      const request =
        url.protocol === "http:"
          ? requestHttp(url, { ...options, agent: plain })
          : requestHttps(url, { ...options, agent: isGuarded ? guarded : trusting });
      boundSilence(request, url.protocol === "http:" ? "connect" : "secureConnect", connectMs, silenceMs);
      const answer = new Promise<IncomingMessage>((resolve, reject) => {
        request.on("response", (response) => {
          response.on("error", () => undefined); // told to who reads it
          resolve(response);
        });
        // When a body fails, the request only hangs up.
        if (body instanceof Readable) body.once("error", reject);
        request.on("error", reject);
      });
      if (body instanceof Readable) pipeline(body, request, () => undefined); // told by the answer
      else request.end(body);
      return answer;
    },
  };
}

/** The socket's clock runs from its first moment: until there is a connection it is the shorter one. */
function boundSilence(request: ClientRequest, connected: "connect" | "secureConnect", connectMs: number, silenceMs: number): void {
  let isConnected = false;
  request.on("socket", (socket) => {
    const connect = (): void => {
      isConnected = true;
      socket.setTimeout(silenceMs);
    };
    if (socket.connecting) socket.once(connected, connect);
    else connect();
  });
  request.on("timeout", () => {
    const [what, ms] = isConnected ? ["was silent for", silenceMs] : ["took no connection within", connectMs];
    const error = new Error(`it ${what} ${ms / 1000} s`);
    request.destroy(isConnected ? error : Object.assign(error, { code: "ETIMEDOUT" }));
  });
}

const guardedLookup = (refused: (hostname: string) => Error): typeof lookup =>
  ((hostname: string, options: object, callback: (error: Error | null, found: { address: string; family: number }[]) => void) => {
    lookup(hostname, { ...options, all: true }, (error, found) => {
      const open = error ? [] : found.filter(({ address }) => !isPrivateAddress(address));
      callback(error ?? (open.length === 0 ? refused(hostname) : null), open);
    });
  }) as typeof lookup; // with autoSelectFamily it is asked with `all`, which is the one form that is answered here
