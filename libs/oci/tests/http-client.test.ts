// Servers that accept and then say nothing, or too little: nobody waits for them for ever. And connections that are used again.
import { createServer as createHttpServer } from "node:http";
import { createServer, type AddressInfo, type Server } from "node:net";
import { expect, it } from "vitest";
import { openHttpClient, type HttpClientOptions } from "../src/http-client.ts";
import { drop } from "../src/transport.ts";

const never = new AbortController().signal;
const options: HttpClientOptions = { certificates: undefined, refused: () => new Error("refused"), connectMs: 50, silenceMs: 100 };
const get = { isGuarded: false, method: "GET", headers: {}, signal: never } as const;

async function listening(server: Server): Promise<AsyncDisposable & { readonly port: number }> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo; // it listens on TCP
  return { port, [Symbol.asyncDispose]: async () => void (await new Promise((resolve) => server.close(resolve))) };
}

it("gives up a server that accepts and does not speak TLS, as one that cannot be connected to", async () => {
  await using server = await listening(createServer((socket) => socket.on("error", () => undefined).resume()));
  const asked = openHttpClient(options).request(new URL(`https://127.0.0.1:${server.port}/`), get);
  await expect(asked).rejects.toMatchObject({ code: "ETIMEDOUT", message: "it took no connection within 0.05 s" });
});

it("gives up a server that does not answer", async () => {
  await using server = await listening(createServer((socket) => socket.on("error", () => undefined).resume()));
  const asked = openHttpClient(options).request(new URL(`http://127.0.0.1:${server.port}/`), get);
  await expect(asked).rejects.toThrow("it was silent for 0.1 s");
});

it("gives up a body that does not go on", async () => {
  const head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
  await using server = await listening(
    createServer(
      (socket) =>
        void socket
          .on("error", () => undefined)
          .resume()
          .write(head),
    ),
  );
  const answer = await openHttpClient(options).request(new URL(`http://127.0.0.1:${server.port}/`), get);
  const read: Buffer[] = [];
  await expect(async () => {
    for await (const chunk of answer as AsyncIterable<Buffer>) read.push(chunk); // it has no encoding set
  }).rejects.toThrow("aborted");
  expect(Buffer.concat(read).toString()).toBe("half");
});

it("uses a connection again after answers that nobody reads", async () => {
  const connections = new Set<unknown>();
  const server = createHttpServer((request, response) => {
    connections.add(request.socket);
    response.writeHead(202).end();
  });
  await using listener = await listening(server);
  const client = openHttpClient(options);
  for (let times = 0; times < 3; times++) {
    const answer = await client.request(new URL(`http://127.0.0.1:${listener.port}/`), { ...get, method: "POST" });
    drop({ body: answer });
    await new Promise((resolve) => answer.once("close", resolve));
  }
  expect(connections.size).toBe(1);
  server.closeAllConnections();
});
