/** Row pages: the kinds whose rows can be written as pages of plain JSON and read again: those of which a large cluster has the most bytes. */
import { BugError } from "../../lib/bug.ts";
import { type BlockPage, readBlocks, writeBlocks } from "./block-page.ts";
import { type PodPage, PodPageReader, PodPageWriter } from "./pod-page.ts";
import type { RowUpdate } from "./rows.ts";

export const PAGED_KINDS = ["Pod", "IPAMBlock"] as const;
export type PagedKind = (typeof PAGED_KINDS)[number];

export type RowPage =
  | { readonly kind: "Pod"; readonly page: PodPage }
  | { readonly kind: "IPAMBlock"; readonly page: BlockPage };

/** Writes the pages of one list, in their order. */
export class RowPageWriter {
  readonly #pods = new PodPageWriter();

  /** All of the kind, and of objects that exist. */
  write(kind: PagedKind, updates: readonly RowUpdate[]): RowPage {
    if (kind === "Pod") return { kind, page: this.#pods.write(allOf(kind, updates)) };
    return { kind, page: writeBlocks(allOf(kind, updates)) };
  }
}

/** Narrows the type. */
function allOf<K extends PagedKind>(kind: K, updates: readonly RowUpdate[]): readonly RowUpdate<K>[] {
  return updates.map((update) => {
    if (isOf(kind, update)) return update;
    throw new BugError(`a row of ${update.kind} among those of ${kind}`);
  });
}

function isOf<K extends PagedKind>(kind: K, update: RowUpdate): update is RowUpdate<K> {
  return update.kind === kind;
}

/** The number of rows of a page. */
export function rowsIn(written: RowPage): number {
  return written.kind === "Pod" ? written.page.count : written.page.length;
}

/** Reads the pages of one list, in their order, each to its end; a row is made when its turn comes. */
export class RowPageReader {
  readonly #pods = new PodPageReader();

  read(written: RowPage, seenAt: number): Iterable<RowUpdate> {
    return written.kind === "Pod" ? this.#pods.read(written.page, seenAt) : readBlocks(written.page, seenAt);
  }
}
