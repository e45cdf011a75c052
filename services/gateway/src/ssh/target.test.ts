import { expect, it } from "vitest";
import { parseTarget } from "./target.ts";

it.each([
  ["web", { vm: "web", user: "" }],
  ["web.team", { vm: "team/web", user: "" }],
  ["team/web", { vm: "team/web", user: "" }],
  ["ada.b+web.team", { vm: "team/web", user: "ada.b" }],
  ["ada+team/web", { vm: "team/web", user: "ada" }],
  ["ada+web-2", { vm: "web-2", user: "ada" }],
  ["_apt+web", { vm: "web", user: "_apt" }],
  ["ada+0b8cd7ef-74c1-4c7e-9a3c-0f4c2a1a7e11", { vm: "0b8cd7ef-74c1-4c7e-9a3c-0f4c2a1a7e11", user: "ada" }],
])("reads %s", (username, target) => expect(parseTarget(username)).toEqual(target));

it.each([
  "",
  "Web",
  "-web",
  "web-",
  "a+b+c",
  "+web",
  "web\n",
  "../web",
  "a/b/web",
  "web.b.a",
  "team/web.a",
  "/web",
  "team/",
  ".team",
  "web.",
  "0b8cd7ef-74c1-4c7e-9a3c-0f4c2a1a7e11.team",
  "web ",
  "ada+",
  `${"a".repeat(64)}`,
  "ada;id+web",
])("refuses %j", (username) => expect(parseTarget(username)).toBeUndefined());
