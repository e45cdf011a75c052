// Strings that mean something to a shell, to SQL, to a file system, to QEMU's options or to a kernel, and nothing to Pitwall.

/** Where one of them would leave a file if anything ran it, it has this in its name. */
export const mark = "canary-36";

/** None of them holds a zero byte. `flag` is the file that a shell would make; its name has the mark. */
export function metacharacters(flag: string): string[] {
  const harm = `touch ${flag}`;
  const shell = [
    ...[
      `$(${harm})`,
      `\`${harm}\``,
      `;${harm}`,
      `;${harm};#`,
      `|${harm}`,
      `||${harm}`,
      `&${harm}`,
      `&&${harm}`,
      `\n${harm}\n`,
      `\r\n${harm}`,
    ],
    ...[`'${harm}'`, `';${harm};'`, `";${harm};"`, `"$(${harm})"`, `'"$(${harm})"'`, `\\\`${harm}\\\``, `>(${harm})`, `<(${harm})`],
    ...[`> ${flag}`, `>>${flag}`, `2>${flag}`, `{touch,${flag}}`, `touch$IFS${flag}`, `() { :;}; ${harm}`, `!${harm}`, `eval ${harm}`],
    ...["*", "?", "[a-z]", "~", "~root", "$HOME", "${PATH}", "$$", "!!", "#", "\\", "\\\\", "\\n", "a b", " ", "\t"],
  ];
  const options = [`-oProxyCommand=${harm}`, `--checkpoint-action=exec=${harm}`, `--to-command=${harm}`, "--help", "-", "--", "-rf"];
  const sql = [
    "' OR '1'='1",
    "'; DROP TABLE vm; --",
    "'); DELETE FROM vm; --",
    '" OR 1=1 --',
    "$1",
    "$$;DROP TABLE vm;$$",
    "/*",
    "%",
    "_%",
  ];
  const paths = [
    "../../../etc/passwd",
    "/etc/passwd",
    `../${mark}`,
    "..",
    ".",
    "./",
    "a/../b",
    "%2e%2e%2f",
    "..\\..\\",
    "a//b",
    "file:///etc",
  ];
  const machine = [
    ...[`,file=${flag}`, ",if=none,file=/etc/passwd,readonly=off", "=,=", "init=/bin/sh", " rdinit=/bin/sh ", "quiet\ninit=/bin/sh"],
    ...["console=tty0 --", "kernel.core_pattern=|/bin/sh", `%s%n${mark}`, `\u001b[2J${mark}`, `\u0001${mark}`, `\u007f${mark}`],
    ...[
      `\u202e${mark}`,
      `\ufeff${mark}`,
      `${mark}é\u0301`,
      `${mark}\u{1f600}`,
      `<script>${mark}</script>`,
      `{{${mark}}}`,
      "toString",
      "[object Object]",
    ],
  ];
  return [...shell, ...options, ...sql, ...paths, ...machine];
}
