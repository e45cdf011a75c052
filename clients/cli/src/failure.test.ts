import { expect, test } from "vitest";
import { CliError, explainRefusal, messageChain, usageError } from "./failure.ts";

const place = { endpoint: "https://pw.example", hasOwnToken: false };
const refusal = { reason: "", field: undefined, message: "words of the server" } as const;

test("who is not signed in is told how to sign in", () => {
  expect(explainRefusal({ ...refusal, code: "UNAUTHENTICATED", message: "the token has expired: sign in again" }, place)).toBe(
    "https://pw.example does not accept your sign-in (the token has expired): sign in with `pitwall login https://pw.example`",
  );
});

test("a token of the environment is not renewed by a sign-in", () => {
  const text = explainRefusal({ ...refusal, code: "UNAUTHENTICATED" }, { ...place, hasOwnToken: true });
  expect(text).toBe("https://pw.example does not accept PITWALL_TOKEN: words of the server");
});

test("a bad field is named as the flag that fills it", () => {
  const message = "spec.mem_bytes: must be 64 MiB to 1048576 MiB, got 1 MiB";
  expect(explainRefusal({ ...refusal, code: "INVALID_ARGUMENT", field: "spec.mem_bytes", message }, place)).toBe(
    "--memory: must be 64 MiB to 1048576 MiB, got 1 MiB",
  );
  const indexed = { field: "spec.authorized_keys[1]", message: "spec.authorized_keys[1]: is damaged" };
  expect(explainRefusal({ ...refusal, code: "INVALID_ARGUMENT", ...indexed }, place)).toBe("--key: is damaged");
});

test("a command may fill a field by another flag than others do", () => {
  const refused = { ...refusal, code: "INVALID_ARGUMENT", field: "ttl", message: "ttl: must be 1 second to 7 days" } as const;
  expect(explainRefusal(refused, place)).toBe("--ttl: must be 1 second to 7 days");
  expect(explainRefusal(refused, { ...place, flags: { ttl: "--expires" } })).toBe("--expires: must be 1 second to 7 days");
});

test("so is a name that is taken", () => {
  const message = "name: you have a VM called web";
  expect(explainRefusal({ ...refusal, code: "ALREADY_EXISTS", field: "name", message }, place)).toBe("--name: you have a VM called web");
});

test("a bad field that no flag fills keeps the server's words", () => {
  expect(explainRefusal({ ...refusal, code: "INVALID_ARGUMENT", field: "etag", message: "etag: is old" }, place)).toBe("etag: is old");
});

test("what is missing comes with the command that lists what there is", () => {
  expect(explainRefusal({ ...refusal, code: "NOT_FOUND", reason: "VM_NOT_FOUND", message: 'there is no VM "web"' }, place)).toBe(
    'there is no VM "web"; `pitwall ls` shows yours',
  );
});

test("a failed connection names the address", () => {
  expect(explainRefusal({ ...refusal, code: "UNKNOWN", message: "fetch failed" }, place)).toBe(
    "no gateway answers at https://pw.example: is it running, and is the address right?",
  );
});

test("what is transient says to try again, once", () => {
  expect(explainRefusal({ ...refusal, code: "UNAVAILABLE", message: "the node has no link" }, place)).toBe(
    "the node has no link; try again in a moment",
  );
  expect(explainRefusal({ ...refusal, code: "UNAVAILABLE", message: "no link; try again" }, place)).toBe("no link; try again");
});

test("other refusals are the server's own words", () => {
  for (const code of ["ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"] as const) {
    expect(explainRefusal({ ...refusal, code }, place)).toBe("words of the server");
  }
});

test("failures exit with 1 and bad command lines with 2", () => {
  expect(new CliError("x").exitCode).toBe(1);
  expect(usageError("x").exitCode).toBe(2);
});

test("causes are told once each, outermost first", () => {
  const cause = new Error("connect ECONNREFUSED", { cause: new Error("connect ECONNREFUSED") });
  expect(messageChain(new Error("no gateway answers", { cause }))).toBe("no gateway answers: connect ECONNREFUSED");
});
