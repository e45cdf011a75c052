// What the services that believe JWTs are told of their issuer: the same settings everywhere.
import { duration, list } from "@pitwall/runtime";
import { z } from "zod";
import { tokenAlgorithms, type VerifierOptions } from "./verifier.ts";

const algorithms = list.pipe(z.array(z.enum(tokenAlgorithms)).min(1, "must name one at least"));

export const issuerSettings = {
  PITWALL_ISSUER: z.url(),
  PITWALL_AUDIENCE: z.string().default("pitwall"),
  PITWALL_JWKS_URL: z.url().optional(),
  PITWALL_TOKEN_ALGORITHMS: algorithms.prefault(tokenAlgorithms.join(",")),
  PITWALL_TOKEN_CLIENTS: list.default([]),
  PITWALL_TOKEN_MAX_AGE: duration.refine((ms) => ms >= 60_000, "must be at least 1m").prefault("24h"),
};

type IssuerSettings = z.output<z.ZodObject<typeof issuerSettings>>;

export function verifierOptions(config: IssuerSettings): VerifierOptions {
  return {
    issuer: config.PITWALL_ISSUER,
    audience: config.PITWALL_AUDIENCE,
    jwksUrl: config.PITWALL_JWKS_URL,
    algorithms: config.PITWALL_TOKEN_ALGORITHMS,
    clients: config.PITWALL_TOKEN_CLIENTS,
    maxAgeMs: config.PITWALL_TOKEN_MAX_AGE,
  };
}
