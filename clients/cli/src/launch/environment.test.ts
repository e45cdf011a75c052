import { expect, test } from "vitest";
import { serviceEnvironment } from "./environment.ts";
import { flagName, optionKey } from "./flags.ts";

test("a flag is its variable in lower case, with dashes", () => {
  expect(flagName({ variable: "PITWALL_CAPACITY_CPU_MILLIS" })).toBe("--capacity-cpu-millis");
  expect(optionKey({ variable: "PITWALL_CAPACITY_CPU_MILLIS" })).toBe("capacityCpuMillis");
});

test("flags win over variables, and other variables stay", () => {
  const env = serviceEnvironment("node", { name: "n2", join: "s" }, { PITWALL_NAME: "n1", PATH: "/bin", PITWALL_DRIVER: "sim" }, "/home");
  expect(env).toEqual({
    PITWALL_NAME: "n2",
    PITWALL_JOIN: "s",
    PATH: "/bin",
    PITWALL_DRIVER: "sim",
    PITWALL_STATE_DIR: "/var/lib/pitwall/node",
  });
});

test("paths are of the folder that the command was given in", () => {
  const env = serviceEnvironment(
    "controller",
    { stateDir: "state", imageRoots: "images, /srv/oci,", listen: "0.0.0.0:7000" },
    {},
    "/home/ada",
  );
  expect(env).toEqual({
    PITWALL_STATE_DIR: "/home/ada/state",
    PITWALL_IMAGE_ROOTS: "/home/ada/images,/srv/oci",
    PITWALL_LISTEN: "0.0.0.0:7000",
  });
});

test("the state folder may be a variable", () => {
  expect(serviceEnvironment("issuer", {}, { PITWALL_STATE_DIR: "/s" }, "/")).toEqual({ PITWALL_STATE_DIR: "/s" });
});
