// A credential as the controller sends it, with what is pulled with it. It is in memory only: the journal has its registry's name alone.
import { credentialsOf, type CredentialsFor } from "@pitwall/oci";
import type { ImageCredential } from "@pitwall/proto/pitwall/v1/link.ts";

/** Undefined: the installation's own count. */
export function credentialsFrom(given: ImageCredential | undefined): CredentialsFor | undefined {
  switch (given?.secret?.$case) {
    case "password":
      return credentialsOf([[given.registry, { kind: "password", username: given.username, password: given.secret.value }]]);
    case "identityToken":
      return credentialsOf([[given.registry, { kind: "refresh-token", token: given.secret.value }]]);
    case undefined:
      return undefined;
  }
}
