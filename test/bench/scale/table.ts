/** table: the rows of the scale bench: what, aim, found, ratio; printed as they come, and kept for the file. */
import { appendFileSync } from "node:fs";
import { digits, percentile } from "../figures.ts";

export interface Row {
  readonly what: string;
  readonly unit: string;
  readonly values: readonly number[];
  readonly aim?: string;
  /** Against something real of the same run. */
  readonly ratio?: { readonly value: number; readonly to: string; readonly aim?: string };
}

/** What is kept of a row: of many values their distribution. */
export interface RowSummary {
  readonly what: string;
  readonly unit: string;
  readonly aim: string | undefined;
  readonly n: number;
  readonly p25: number;
  readonly p50: number;
  readonly p75: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
  readonly ratio: Row["ratio"];
}

export function summaryOf({ what, unit, values, aim, ratio }: Row): RowSummary {
  const at = (fraction: number): number => percentile(values, fraction);
  return {
    what,
    unit,
    aim,
    n: values.length,
    p25: at(0.25),
    p50: at(0.5),
    p75: at(0.75),
    p90: at(0.9),
    p99: at(0.99),
    max: Math.max(...values),
    ratio,
  };
}

export function lineOf(row: Row): string {
  const { what, unit, values, aim, ratio } = row;
  const { p25, p50, p75, p90, p99, max } = summaryOf(row);
  const found =
    values.length === 1
      ? `${digits(p50)} ${unit}`
      : values.length < 8
        ? `${values.map(digits).join(", ")} ${unit}`
        : `p50 ${digits(p50)} (${digits(p25)}-${digits(p75)}) p90 ${digits(p90)} p99 ${digits(p99)} max ${digits(max)} ${unit}, n ${values.length}`;
  const against =
    ratio === undefined
      ? ""
      : `${ratio.value.toFixed(2)}x ${ratio.to}${ratio.aim === undefined ? "" : ` (aim ${ratio.aim})`}`;
  return `${what.padEnd(58)} ${(aim ?? "").padEnd(22)} ${found.padEnd(66)} ${against}`.trimEnd();
}

export class Table {
  readonly #file: string;

  /** Rows are appended to the file, a line of JSON each. */
  constructor(file: string) {
    this.#file = file;
  }

  heading(text: string): void {
    console.log(`\n== ${text}`);
  }

  add(row: Row): void {
    if (row.values.length === 0) throw new Error(`no values for the row ${JSON.stringify(row.what)}`);
    console.log(lineOf(row));
    appendFileSync(this.#file, `${JSON.stringify(summaryOf(row))}\n`);
  }
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}
