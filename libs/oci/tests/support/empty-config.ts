// The configuration of an image that says nothing but its platform.
import type { ImageConfig } from "../../src/index.ts";

export const emptyConfig: ImageConfig = {
  entrypoint: [],
  cmd: [],
  env: [],
  user: "",
  workingDir: "",
  stopSignal: "",
  exposedPorts: [],
  labels: {},
  healthcheck: undefined,
  volumes: [],
  shell: [],
  onBuild: [],
  architecture: "amd64",
  variant: "",
  os: "linux",
  osVersion: "",
  osFeatures: [],
  others: {},
};
