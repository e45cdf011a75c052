import { readConfig } from "@pitwall/runtime";
import { expect, it } from "vitest";
import { z } from "zod";
import { imageSourceOptions, imageSourceSettings } from "./config.ts";

const schema = z.object(imageSourceSettings);

it("lists mirrors in their order, Docker Hub's under the host that it has", () => {
  const config = readConfig(schema, { PITWALL_REGISTRY_MIRRORS: "docker.io=one:5000,ghcr.io=two,docker.io=three" });
  expect(imageSourceOptions(config)).toEqual({
    imageRoots: [],
    insecureRegistries: [],
    privateRegistries: [],
    mirrors: new Map([
      ["registry-1.docker.io", ["one:5000", "three"]],
      ["ghcr.io", ["two"]],
    ]),
  });
});

it.each(["docker.io", "docker.io=", "=one", "docker.io=https://one"])("refuses the mirror %j", (text) => {
  expect(() => readConfig(schema, { PITWALL_REGISTRY_MIRRORS: text })).toThrow("must be HOST=MIRROR");
});
