/** Block page: rows of many IPAMBlocks as plain JSON, as `pod-page.ts` has those of pods. */
import { fail, ok, type Result } from "../../lib/result.ts";
import { bitsOf } from "../../net/addr.ts";
import { type Prefix, prefixFamily, prefixLength } from "../../net/prefix.ts";
import { formatKey, type Key } from "../key.ts";
import type { Revision } from "../revision.ts";
import type { FieldError } from "../schema/field-error.ts";
import type { BlockRow } from "./block.ts";
import type { RowUpdate } from "./rows.ts";

export type BlockPage = readonly BlockEntry[];

interface BlockEntry {
  readonly name: string;
  readonly revision: Revision;
  /** 0: none is known. */
  readonly generation: number;
  readonly block: PageBlock | { readonly error: FieldError };
}

/** A row without what its prefix says; JSON leaves out what is undefined. */
interface PageBlock extends Pick<BlockRow, "held" | "holders" | "own"> {
  readonly prefix: Prefix;
  readonly node?: string | undefined;
}

/** Of blocks that exist. */
export function writeBlocks(updates: readonly RowUpdate<"IPAMBlock">[]): BlockPage {
  return updates.flatMap(({ key, value, origin }): BlockEntry[] => {
    if (value === undefined) return [];
    const { revision, generation = 0 } = origin;
    const block = value.ok ? pageBlockOf(value.value) : { error: value.error };
    return [{ name: key.name, revision, generation, block }];
  });
}

function pageBlockOf({ prefix, node, held, holders, own }: BlockRow): PageBlock {
  return { prefix, node, held, holders, own };
}

/** Rows as they were written; `seenAt` is when they came to be known. */
export function* readBlocks(page: BlockPage, seenAt: number): Generator<RowUpdate<"IPAMBlock">> {
  for (const { name, revision, generation, block } of page) {
    const key: Key<"IPAMBlock"> = { kind: "IPAMBlock", namespace: undefined, name };
    const origin = { revision, generation: generation || undefined, seenAt };
    const value: Result<BlockRow, FieldError> = "error" in block ? fail(block.error) : ok(rowOf(block));
    yield { kind: "IPAMBlock", key, id: formatKey(key), value, origin };
  }
}

function rowOf({ prefix, node, held, holders, own }: PageBlock): BlockRow {
  const family = prefixFamily(prefix);
  const size = 2 ** (bitsOf(family) - prefixLength(prefix));
  return { prefix, family, size, node, held, holders, own };
}
