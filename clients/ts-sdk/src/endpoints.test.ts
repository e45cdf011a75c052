import { ClientError, Metadata, Status } from "nice-grpc-common";
import { expect, test } from "vitest";
import { openEndpoints } from "./endpoints.ts";

const kind = { requestStream: false, responseStream: false, requestType: undefined, responseType: undefined, options: {} };
const wire = { requestSerialize: () => new Uint8Array(), responseDeserialize: () => undefined };
const method = { path: "/a.B/C", ...kind, ...wire, requestDeserialize: () => undefined, responseSerialize: () => new Uint8Array() };

/** Where calls go, one after the other, each of which ends so: with a status, or well. */
async function visited(endpoints: string | readonly string[], ends: readonly (ClientError | undefined)[]): Promise<string[]> {
  const urls: string[] = [];
  const { address, transport, leave } = openEndpoints(endpoints, async function* here({ url }) {
    urls.push(url);
    yield { type: "header" as const, header: Metadata() };
  });
  for (const end of ends) {
    const params = {
      url: `${address}/a.B/C`,
      body: (async function* none() {})(),
      metadata: Metadata(),
      signal: new AbortController().signal,
      method,
    };
    async function* next() {
      for await (const frame of transport(params)) yield frame;
      if (end) throw end;
    }
    const call = { method, requestStream: false, request: {}, responseStream: true, next } as const;
    try {
      for await (const _ of leave(call, {}));
    } catch (error) {
      expect(error).toBe(end);
    }
  }
  return urls.map((url) => url.replace("/a.B/C", ""));
}

const failed = (code: Status, details = ""): ClientError => new ClientError(method.path, code, details);

test("calls stay with the first gateway until it does not answer, and then with the next", async () => {
  const gone = failed(Status.UNAVAILABLE);
  expect(await visited(["http://a", "http://b:1"], [undefined, undefined, gone, undefined, gone, undefined])).toEqual([
    ...["http://a", "http://a", "http://a", "http://b:1", "http://b:1", "http://a"],
  ]);
});

test("what is refused is refused by all, and what never arrived is not", async () => {
  const [no, lost] = [failed(Status.PERMISSION_DENIED), failed(Status.UNKNOWN, "Transport error: TypeError: fetch failed")];
  expect(await visited(["http://a", "http://b"], [no, undefined, lost, undefined])).toEqual([
    "http://a",
    "http://a",
    "http://a",
    "http://b",
  ]);
});

test("one gateway is always the next, too", async () => {
  expect(await visited("http://a", [failed(Status.UNAVAILABLE), undefined])).toEqual(["http://a", "http://a"]);
});

test("there must be one", () => expect(() => openEndpoints([], () => (async function* none() {})())).toThrow("there must be an endpoint"));
