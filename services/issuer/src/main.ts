// The development issuer's composition root. For production, use a real issuer, such as Keycloak.
import { createServer } from "node:http";
import { hostPortText, listen, logLevel, openLog, runMain } from "@pitwall/runtime";
import { readIssuerConfig } from "./config.ts";
import { makeProvider } from "./provider.ts";
import { openSecrets } from "./secrets.ts";

const log = openLog("issuer", logLevel(process.env["PITWALL_LOG_LEVEL"]));
await runMain(log, start);

async function start(): Promise<AsyncDisposable> {
  const { PITWALL_LISTEN: address, PITWALL_AUDIENCE: audience, PITWALL_STATE_DIR: stateDir } = readIssuerConfig(process.env);
  const secrets = await openSecrets(stateDir);
  const server = createServer();
  const port = await listen(server, address, "issuer");
  const issuer = `http://${hostPortText({ host: address.host, port })}`;
  const provider = makeProvider(issuer, audience, secrets);
  provider.on("server_error", (_, error) => log.error("a request failed", { error }));
  const handle = provider.callback();
  server.on("request", (request, response) => void handle(request, response));
  process.stdout.write(`${JSON.stringify({ ready: true, issuer, clientSecretFile: secrets.clientSecretFile })}\n`);
  return {
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
