import { expect, it } from "vitest";
import { absoluteImage } from "./image-reference.ts";

it.each([
  ["oci:./image", "oci:/home/ada/image"],
  ["oci:../image:v1", "oci:/home/image:v1"],
  ["docker-archive:image.tar:name:tag", "docker-archive:/home/ada/image.tar:name:tag"],
  ["oci:/srv/image", "oci:/srv/image"],
  ["nginx:1.27", "nginx:1.27"],
  ["oci:5000/name:tag", "oci:5000/name:tag"],
  ["localhost:5000/name@sha256:00", "localhost:5000/name@sha256:00"],
  ["oci:", "oci:"],
])("%s is sent as %s", (text, sent) => expect(absoluteImage(text, "/home/ada")).toBe(sent));
