/** RefusedRows: tells once of each row that the kernel begins to refuse, or refuses for another reason than before, and when that is over. */
import type { Report } from "../lib/report.ts";
import type { RowStatus } from "./driver.ts";

export class RefusedRows {
  readonly #report: Report;
  readonly #refused: ((row: RowStatus) => void) | undefined;
  /** Errors of the rows that were reported. */
  #reported: ReadonlyMap<string, string> = new Map();

  constructor(report: Report, refused: ((row: RowStatus) => void) | undefined) {
    this.#report = report;
    this.#refused = refused;
  }

  /** All rows of a driver that are not as they are wanted, as of now. */
  tell(rows: readonly RowStatus[]): void {
    const failures = rows.filter((row) => row.state === "failed");
    if (failures.length === 0 && this.#reported.size === 0) return;
    const now = new Map(failures.map((row) => [row.row, row.error]));
    for (const row of failures) {
      if (this.#reported.get(row.row) === row.error) continue;
      this.#report("the kernel refuses a row: all others go on, will retry", { row: row.row, error: row.error });
      this.#refused?.(row);
    }
    for (const row of this.#reported.keys())
      if (!now.has(row)) this.#report("a row that the kernel refused is programmed or gone", { row });
    this.#reported = now;
  }
}
