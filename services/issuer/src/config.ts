// The development issuer's configuration.
import { hostPort, isLoopback, readConfig } from "@pitwall/runtime";
import { z } from "zod";

const schema = z.object({
  PITWALL_STATE_DIR: z.string().startsWith("/", "must be an absolute path"),
  PITWALL_LOG_LEVEL: z.enum(["debug", "info", "warn", "error"]).default("info"),
  // It asks nobody for a password: whoever reaches it can be anybody.
  PITWALL_LISTEN: hostPort
    .prefault("127.0.0.1:9000")
    .refine(({ host }) => isLoopback(host), "must be a loopback address: this issuer asks for no password"),
  PITWALL_AUDIENCE: z.string().default("pitwall"),
});

/** Throws `invalid` with all faults. */
export function readIssuerConfig(env: NodeJS.ProcessEnv): Readonly<z.output<typeof schema>> {
  return readConfig(schema, env);
}
