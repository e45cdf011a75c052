import { once } from "node:events";
import { createServer } from "node:net";
import { expect, it } from "vitest";
import { freePort, isFreePort } from "./free-port.ts";

it("gives ports that can be listened on, none that the kernel gives to others", async () => {
  const ports = await Promise.all(Array.from({ length: 20 }, async () => freePort()));
  for (const port of ports) expect(port).toBeLessThan(32_768);
  const server = createServer().listen(ports[0], "127.0.0.1");
  await once(server, "listening");
  expect(await isFreePort(ports[0] ?? 0)).toBe(false);
  server.close();
  await once(server, "close");
  expect(await isFreePort(ports[0] ?? 0)).toBe(true);
});
