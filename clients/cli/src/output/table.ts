// Tables and lists of fields as padded columns. Every cell is made safe here, so that no caller can forget it.
import { plain } from "./terminal-text.ts";

/** Text, or text with the colour it is painted in once it is padded. */
export type Cell = string | { readonly text: string; readonly paint: (text: string) => string };

const gap = "  ";

/** A heading and one line per row; nothing at all without rows. */
export function table(headings: readonly string[], rows: readonly (readonly Cell[])[]): string {
  return rows.length === 0 ? "" : columns([headings, ...rows]);
}

/** One line per field; fields without a value are left out. */
export function fieldList(fields: readonly (readonly [name: string, value: Cell])[]): string {
  return columns(fields.filter(([, value]) => textOf(value) !== ""));
}

function columns(rows: readonly (readonly Cell[])[]): string {
  const widths: number[] = [];
  for (const row of rows) for (const [at, cell] of row.entries()) widths[at] = Math.max(widths[at] ?? 0, [...textOf(cell)].length);
  return rows.map((row) => `${row.map((cell, at) => pad(cell, at === row.length - 1 ? 0 : (widths[at] ?? 0))).join(gap)}\n`).join("");
}

function textOf(cell: Cell): string {
  return plain(typeof cell === "string" ? cell : cell.text).trimEnd();
}

function pad(cell: Cell, width: number): string {
  const text = textOf(cell);
  const blanks = " ".repeat(Math.max(0, width - [...text].length));
  return typeof cell === "string" ? text + blanks : cell.paint(text) + blanks;
}
