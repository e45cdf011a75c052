// The contract as a document.
import { fields, otherFields } from "./fields.ts";

const intro = `# Parity

What a VM makes of an OCI image, compared with a container runtime. Printed from \`libs/oci/src/parity/\` by a unit test; do not edit.
\`pitwall images check REF\` and \`ImageService.CheckImage\` say the same of one image, field by field; \`pitwall run --strict\`
(\`CreateVmRequest.strict\`) refuses an image of which a field is ignored.

- **honoured**: as a container runtime does.
- **adapted**: the same purpose, reached in another way.
- **ignored**: nothing is made of it.

A field is judged by the first case that holds.
`;

/** docs/parity.md */
export function printContract(): string {
  const rows = fields.flatMap(({ field, cases }) =>
    cases.map(({ when, parity, why }, at) => [at === 0 ? `\`${field}\`` : "", when, parity, why]),
  );
  const others = otherFields.map(({ shown, parity, why }) => [shown, parity, why]);
  return [
    intro,
    "## The image configuration\n",
    table(["field", "when", "verdict", "what a VM makes of it"], rows),
    "## Fields that are reported only when they are set\n",
    table(["field", "verdict", "why"], others),
  ].join("\n");
}

function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |\n`;
  return line(headings) + `|${"---|".repeat(headings.length)}\n` + rows.map(line).join("");
}
