// How Node runs a service.

/** In MiB, each half of the young generation. What clients make a gateway hold for a moment is then given back soon, also under attack. */
const gatewaySemiSpaceMib = 4;

/** What stands before the program on Node's command line. */
export function nodeArguments(service: string): readonly string[] {
  return ["--disable-warning=DEP0123", ...(service === "gateway" ? [`--max-semi-space-size=${gatewaySemiSpaceMib}`] : [])];
}
