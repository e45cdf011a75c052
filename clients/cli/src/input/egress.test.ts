import { expect, test } from "vitest";
import { addEgress, egressOf, egressWords, type EgressWords } from "./egress.ts";

const parse = (...texts: string[]): ReturnType<typeof egressOf> => {
  let words: EgressWords | undefined;
  for (const text of texts) words = addEgress(text, words);
  return egressOf(words === undefined ? {} : { egress: words });
};

test.each([
  [["deny"], ["deny"]],
  [
    ["allow,203.0.113.0/24,tcp/443", "deny"],
    ["allow,203.0.113.0/24,tcp/443", "deny"],
  ],
  [["allow,tcp/443"], ["allow,tcp/443", "deny"]],
  [["deny,udp/53"], ["deny,udp/53", "allow"]],
  [
    ["deny,udp/53", "allow,2001:db8::/32", "allow,53"],
    ["deny,udp/53", "allow,2001:db8::/32", "allow,53", "deny"],
  ],
  [
    ["allow", "deny,icmp", "deny,1.2.3.4,udp/5000-5010"],
    ["deny,icmp", "deny,1.2.3.4,udp/5000-5010", "allow"],
  ],
  [
    ["deny", "allow,tcp"],
    ["allow,tcp", "deny"],
  ],
])("%j is shown as %j", (texts, words) => {
  const egress = parse(...texts);
  expect(egress && egressWords(egress)).toEqual(words);
  // What is shown can be said again.
  expect(parse(...words)).toEqual(egress);
});

test("nothing, and none, are two things", () => {
  expect(parse()).toBeUndefined();
  expect(parse("none")).toBeNull();
});

test.each([
  [["permit"], "Expected allow or deny"],
  [["allow,example.org"], "Expected allow or deny"],
  [["allow,tcp/0"], "Expected allow or deny"],
  [["allow,tcp/70000"], "Expected allow or deny"],
  [["allow,tcp/90-80"], "Expected allow or deny"],
  [["allow,tcp/"], "Expected allow or deny"],
  [["allow,icmp/8"], "Expected allow or deny"],
  [["allow,tcp/443,1.2.3.4"], "Expected allow or deny"],
  [["allow,"], "Expected allow or deny"],
  [["allow,1.2.3.4,tcp/1,tcp/2"], "Expected allow or deny"],
  [["allow", "deny"], "is said once"],
  [["none", "deny"], "none stands alone"],
  [["deny", "none"], "none stands alone"],
])("%j is refused", (texts, says) => {
  expect(() => parse(...texts)).toThrow(says);
});
