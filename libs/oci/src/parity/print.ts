// The contract as a document.
import { fields, otherFields } from "./fields.ts";
import { surroundings } from "./surroundings.ts";

const intro = `# Parity

What a VM makes of an OCI image, compared with a container runtime. Printed from \`libs/oci/src/parity/\` by a unit test; do not edit.
\`pitwall images check REF\` and \`ImageService.CheckImage\` say the same of one image, field by field; \`pitwall run --strict\`
(\`CreateVmRequest.strict\`) refuses an image of which a field is ignored.

- **honoured**: as a container runtime does.
- **adapted**: the same purpose, reached in another way.
- **ignored**: nothing is made of it.

A field is judged by the first case that holds.
`;

const surroundingsIntro = `## What the process finds around it

Arguments, environment, working directory, user, groups, umask, signal dispositions, exit code, stop signal, host name, the contents of
/etc/hosts, /etc/hostname and /etc/resolv.conf, and mounts (among them /dev/shm, /dev/pts and /dev/mqueue) are as in a container.
\`tests/parity.test.ts\` starts the same images with runc, configured by umoci with the defaults of common engines, and as VMs. These are
all the differences that it finds:
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
    surroundingsIntro,
    table(
      ["what", "in a container", "in a VM"],
      surroundings.map(({ what, container, vm }) => [what, container, vm]),
    ),
  ].join("\n");
}

function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |\n`;
  return line(headings) + `|${"---|".repeat(headings.length)}\n` + rows.map(line).join("");
}
