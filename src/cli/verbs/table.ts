/**
 * Table: rows in columns as upstream's calicoctl aligns them: each cell is followed by at least three blanks, the last one too, and no
 * column is narrower than five. Source of the layout: text/tabwriter with a padding of 3 and a width of at least 5.
 */
const PADDING = 3;
const NARROWEST = 5;

/** The heading and the rows, a line each, and an empty line below. */
export function formatTable(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [headings, ...rows.map((row) => row.map(visible))];
  const widths = headings.map((_, column) =>
    lines.reduce((widest, line) => Math.max(widest, widthOf(line[column] ?? "") + PADDING), NARROWEST),
  );
  const text = lines.map((line) =>
    line.map((cell, column) => cell + " ".repeat((widths[column] ?? 0) - widthOf(cell))).join(""),
  );
  return `${text.join("\n")}\n\n`;
}

function widthOf(text: string): number {
  return [...text].length;
}

/** Control characters of a name or selector must not reach the terminal as such. */
function visible(text: string): string {
  return /\p{Cc}/u.test(text) ? text.replace(/\p{Cc}/gu, (character) => JSON.stringify(character).slice(1, -1)) : text;
}
