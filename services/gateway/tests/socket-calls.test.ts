// Calls over WebSocket, with the SDK's transport before the gateway and a real gRPC server behind it.
import { silentLog } from "@pitwall/runtime";
import { createChannel, createClientFactory, FetchTransport, Metadata, type Client } from "nice-grpc-web";
import { ClientError, Status } from "nice-grpc-common";
import { errorDetailsClientMiddleware, type RichClientError } from "nice-grpc-error-details";
import { describe, expect, it, onTestFinished } from "vitest";
import { overSocket } from "../../../clients/ts-sdk/src/socket-transport.ts";
import { GatewayMetrics } from "../src/metrics.ts";
import { defaultLimits } from "../src/web/limits.ts";
import { openLoneUpstream } from "../src/web/lone-upstream.ts";
import { openWebServer } from "../src/web/server.ts";
import { bytesDefinition, openBytesUpstream, type BytesUpstream } from "./support/grpc-upstream.ts";

interface Parts {
  readonly upstream: BytesUpstream;
  readonly client: Client<typeof bytesDefinition>;
  readonly web: AsyncDisposable & { readonly port: number };
}

async function start(): Promise<Parts> {
  const upstream = await openBytesUpstream();
  onTestFinished(() => upstream[Symbol.asyncDispose]());
  const lone = openLoneUpstream({ host: "127.0.0.1", port: upstream.port }, silentLog);
  onTestFinished(() => lone[Symbol.dispose]());
  const web = await openWebServer(
    { host: "127.0.0.1", port: 0 },
    { open: lone.open, corsOrigins: [], limits: defaultLimits, metrics: new GatewayMetrics(), log: silentLog },
  );
  onTestFinished(() => web[Symbol.asyncDispose]());
  const client = createClientFactory()
    .use(errorDetailsClientMiddleware)
    .create(bytesDefinition, createChannel(`http://127.0.0.1:${web.port}`, overSocket));
  return { upstream, client, web };
}

async function* each(...texts: (string | Uint8Array)[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield Buffer.from(text);
}

async function textsOf(answers: AsyncIterable<Uint8Array>): Promise<string[]> {
  const texts: string[] = [];
  for await (const answer of answers) texts.push(Buffer.from(answer).toString());
  return texts;
}

async function refusalOf(work: Promise<unknown>): Promise<ClientError> {
  const error: unknown = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ClientError)) throw new Error("it was not refused", { cause: error });
  return error;
}

/** A stream of requests that waits for what a test says. */
function said(): { requests: AsyncIterable<Uint8Array>; say: (text: string) => void; end: () => void } {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const writer = writable.getWriter();
  const ignore = (): void => undefined;
  return {
    requests: readable,
    say: (text) => void writer.write(Buffer.from(text)).catch(ignore),
    end: () => void writer.close().catch(ignore),
  };
}

describe("each kind of call", () => {
  it("bidi: answers come while requests are still being made", async () => {
    const { client } = await start();
    const { requests, say, end } = said();
    const answers = client.echo(requests)[Symbol.asyncIterator]();
    for (const text of ["one", "two", "three"]) {
      say(text);
      expect(Buffer.from((await answers.next()).value as Uint8Array).toString()).toBe(text);
    }
    end();
    expect((await answers.next()).done).toBe(true);
  });

  it("client streaming", async () => {
    const { client } = await start();
    expect(Buffer.from(await client.collect(each("a", "b", "c"))).toString()).toBe("abc");
  });

  it("unary", async () => {
    const { client } = await start();
    expect(Buffer.from(await client.one(Buffer.from("x"))).toString()).toBe("x");
  });

  it("server streaming", async () => {
    const { client } = await start();
    expect((await textsOf(client.many(Buffer.from("5 3")))).map(({ length }) => length)).toEqual([3, 3, 3, 3, 3]);
  });

  it("empty messages, and none at all", async () => {
    const { client } = await start();
    expect(await textsOf(client.echo(each("", "")))).toEqual(["", ""]);
    expect(await textsOf(client.echo(each()))).toEqual([]);
    expect((await client.collect(each())).length).toBe(0);
  });

  it("many at once", async () => {
    const { client } = await start();
    const answers = await Promise.all(Array.from({ length: 50 }, (_, at) => textsOf(client.echo(each(`${at}`, "x")))));
    expect(answers).toEqual(Array.from({ length: 50 }, (_, at) => [`${at}`, "x"]));
  });
});

describe("a status", () => {
  it("has its code, its words in any script, and its details", async () => {
    const { client } = await start();
    const error = await refusalOf(textsOf(client.echo(each("ok", "fail"))));
    expect(error).toMatchObject({ code: Status.FAILED_PRECONDITION, details: "não 100 % möglich" });
    expect((error as RichClientError).extra).toMatchObject([{ fieldViolations: [{ field: "name", description: "taken" }] }]);
  });

  it("without an answer before it is the same", async () => {
    const { client } = await start();
    expect(await refusalOf(client.one(Buffer.from("fail")))).toMatchObject({ code: Status.FAILED_PRECONDITION });
  });

  it("of a method that is not there is UNIMPLEMENTED", async () => {
    const { client, web } = await start();
    const missing = { ...bytesDefinition, one: { ...bytesDefinition.one, path: "/test.Bytes/Missing" } };
    const other = createClientFactory().create(missing, createChannel(`http://127.0.0.1:${web.port}`, overSocket));
    expect(await refusalOf(other.one(Buffer.from("x")))).toMatchObject({ code: Status.UNIMPLEMENTED });
    expect(Buffer.from(await client.one(Buffer.from("x"))).toString()).toBe("x");
  });

  it("that the upstream gives early ends the call, whatever its client would still say", async () => {
    const { client } = await start();
    const { requests, say } = said();
    say("end");
    expect(await textsOf(client.echo(requests))).toEqual([]);
  });
});

describe("metadata", () => {
  it("goes up and comes down, several values and binary ones", async () => {
    const { client, upstream } = await start();
    let [header, trailer] = [Metadata(), Metadata()];
    const metadata = Metadata({ "want-header": "1", "x-mine": ["a", "b, c"], "m-bin": Buffer.from([0, 200, 7]) });
    const options = { metadata, onHeader: (seen: Metadata) => void (header = seen), onTrailer: (seen: Metadata) => void (trailer = seen) };
    await textsOf(client.echo(each("x"), options));
    expect(upstream.metadata().getAll("x-mine").join("; ")).toMatch(/^a[;,] b, c$/);
    expect(Buffer.from(upstream.metadata().get("m-bin") ?? [])).toEqual(Buffer.from([0, 200, 7]));
    expect(header.getAll("x-begin").join("; ")).toMatch(/^1(; |, )2$/);
    expect(Buffer.from(header.get("y-bin") ?? [])).toEqual(Buffer.from([0, 1, 255]));
    expect(trailer.get("x-end")).toBe("3");
    expect(Buffer.from(trailer.get("z-bin") ?? [])).toEqual(Buffer.from([254, 0]));
  });
});

describe("large messages", () => {
  it.each([64 * 1024, 256 * 1024 - 5, 256 * 1024, 3 * 2 ** 20])("of %d bytes go up and come down whole", async (size) => {
    const { client } = await start();
    const sent = Buffer.alloc(size, "0123456789abcdef!");
    const answers: Uint8Array[] = [];
    for await (const answer of client.echo(each(sent))) answers.push(answer);
    expect(Buffer.concat(answers).equals(sent)).toBe(true);
  });

  it("many small ones do, too: none is stuck for want of credit", async () => {
    const { client } = await start();
    const texts = Array.from({ length: 5_000 }, (_, at) => `${at}`);
    expect(await textsOf(client.echo(each(...texts)))).toEqual(texts);
  });
});

describe("whoever reads slowly holds back", () => {
  /** What may wait on the way: both windows of HTTP/2, credit, and buffers of sockets. */
  const mayWait = 12 * 2 ** 20;

  it("the upstream; and all comes once it is read", async () => {
    const { client, upstream } = await start();
    const answers = client.many(Buffer.from("1500 65536"))[Symbol.asyncIterator]();
    await answers.next();
    let before = -1;
    while (before !== upstream.seen.length) {
      before = upstream.seen.length;
      await new Promise((resolve) => setTimeout(resolve, 400));
    }
    expect(upstream.seen.length * 65_536).toBeLessThan(mayWait);
    let read = 1;
    while ((await answers.next()).done !== true) read++;
    expect(read).toBe(1_500);
  });

  it("the client", async () => {
    const { client } = await start();
    let sent = 0;
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) {
        sent += 65_536;
        yield Buffer.alloc(65_536);
      }
    }
    const stop = new AbortController();
    const call = textsOf(client.hang(endless(), { signal: stop.signal }));
    call.catch(() => undefined);
    let before = -1;
    while (before !== sent) {
      before = sent;
      await new Promise((resolve) => setTimeout(resolve, 400));
    }
    stop.abort();
    expect(sent).toBeGreaterThan(0);
    expect(sent).toBeLessThan(mayWait);
  });
});

describe("ends", () => {
  it("an abort cancels the upstream call", async () => {
    const { client, upstream } = await start();
    const stop = new AbortController();
    const call = textsOf(client.hang(said().requests, { signal: stop.signal }));
    await upstream.saw("begun");
    stop.abort();
    await expect(call).rejects.toMatchObject({ name: "AbortError" });
    await upstream.saw("cancelled");
  });

  it("an abort before the connection is open, too", async () => {
    const { client } = await start();
    const stop = new AbortController();
    const call = textsOf(client.hang(said().requests, { signal: stop.signal }));
    stop.abort();
    await expect(call).rejects.toMatchObject({ name: "AbortError" });
  });

  it("requests that fail cancel the upstream call, and their failure is the call's", async () => {
    const { client, upstream } = await start();
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield Buffer.from("x");
      await upstream.saw("begun");
      throw new Error("it breaks off");
    }
    await expect(textsOf(client.hang(failing()))).rejects.toThrow("it breaks off");
    await upstream.saw("cancelled");
  });

  it("a deadline ends a call as DEADLINE_EXCEEDED, and the upstream's", async () => {
    const { client, upstream } = await start();
    const call = textsOf(client.hang(said().requests, { metadata: Metadata({ "grpc-timeout": "200m" }) }));
    expect(await refusalOf(call)).toMatchObject({ code: Status.DEADLINE_EXCEEDED });
    await upstream.saw("cancelled");
  });

  it("an upstream that is gone is UNAVAILABLE, in the middle and before the beginning", async () => {
    const { client, upstream } = await start();
    const call = refusalOf(textsOf(client.hang(said().requests)));
    await upstream.saw("begun");
    await upstream[Symbol.asyncDispose]();
    expect((await call).code).toBe(Status.UNAVAILABLE);
    expect(await refusalOf(textsOf(client.echo(each("x"))))).toMatchObject({ code: Status.UNAVAILABLE });
  });

  it("a gateway that is gone is UNAVAILABLE", async () => {
    const { client, web } = await start();
    await web[Symbol.asyncDispose]();
    expect(await refusalOf(textsOf(client.echo(each("x"))))).toMatchObject({ code: Status.UNAVAILABLE });
  });

  it("a gateway that stops ends streams as UNAVAILABLE and waits for answers that are being made", { timeout: 20_000 }, async () => {
    const { client, upstream, web } = await start();
    const bidi = said();
    bidi.say("x");
    const answers = client.echo(bidi.requests)[Symbol.asyncIterator]();
    await answers.next();
    await new Promise((resolve) => setTimeout(resolve, 1_200)); // now it is a stream
    const unary = said();
    unary.say("a");
    const answer = client.collect(unary.requests);
    while (upstream.seen.filter((what) => what === "begun").length < 2) await new Promise((resolve) => setTimeout(resolve, 10));
    const stopped = web[Symbol.asyncDispose]();
    expect(await refusalOf(answers.next())).toMatchObject({ code: Status.UNAVAILABLE, details: "the gateway is stopping; call again" });
    unary.end();
    expect(Buffer.from(await answer).toString()).toBe("a");
    await stopped;
  });
});

it("the rest of the SDK's calls go on with fetch beside it", async () => {
  const { web } = await start();
  const client = createClientFactory().create(bytesDefinition, createChannel(`http://127.0.0.1:${web.port}`, FetchTransport()));
  expect(Buffer.from(await client.one(Buffer.from("x"))).toString()).toBe("x");
});
