// TCP to a port of a VM, through the gateway's web port: docs/ingress.md.
import { request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Socket } from "node:net";

const protocol = "pitwall-tcp";
const limitMs = 70_000;
const maxWords = 500;

export interface TcpTarget {
  readonly endpoint: string;
  readonly token: string;
  /** An id. */
  readonly vm: string;
  readonly port: number;
}

/** Rejects with what the gateway said. */
export async function openTcpWay({ endpoint, token, vm, port }: TcpTarget, signal: AbortSignal): Promise<Socket> {
  const url = new URL(`/vm/${vm}/${port}`, endpoint);
  const headers = { authorization: `Bearer ${token}`, connection: "Upgrade", upgrade: protocol };
  const limit = AbortSignal.timeout(limitMs);
  const asked = (url.protocol === "https:" ? httpsRequest : httpRequest)(url, { headers, agent: false });
  const onAbort = (): void => void asked.destroy(new Error(limit.aborted ? "the gateway does not answer" : "interrupted"));
  for (const one of [signal, limit]) one.addEventListener("abort", onAbort, { once: true });
  try {
    return await new Promise<Socket>((resolve, reject) => {
      asked
        .once("upgrade", (_, socket: Socket, first: Buffer) => {
          socket.allowHalfOpen = true;
          socket.unshift(first);
          resolve(socket);
        })
        .once("response", (reply: IncomingMessage) => void wordsOf(reply).then((words) => reject(new Error(words))))
        .once("error", reject)
        .end();
    });
  } finally {
    for (const one of [signal, limit]) one.removeEventListener("abort", onAbort);
  }
}

async function wordsOf(reply: IncomingMessage): Promise<string> {
  let words = "";
  reply.setEncoding("utf8");
  try {
    for await (const chunk of reply) if ((words += String(chunk)).length > maxWords) break;
  } catch {
    // What was said so far has to do.
  }
  const said = words.slice(0, maxWords).trim();
  return said === "" || reply.statusCode === 200
    ? `the gateway cannot do that (HTTP status ${reply.statusCode}): it may be older than this command`
    : said;
}
