/** Block page: rows of many IPAMBlocks as plain JSON, as `pod-page.ts` has those of pods. */
import { ok, type Result } from "../../lib/result.ts";
import { bitsOf } from "../../net/addr.ts";
import { addressesOf } from "../../net/ordinal.ts";
import { type Prefix, prefixFamily, prefixLength } from "../../net/prefix.ts";
import { formatKey, type Key } from "../key.ts";
import { type Revision, revisionOf } from "../revision.ts";
import type { FieldError } from "../schema/field-error.ts";
import type { Allocation, BlockRow } from "./block.ts";
import type { RowUpdate } from "./rows.ts";

export type BlockPage = readonly BlockEntry[];

interface BlockEntry {
  readonly name: string;
  readonly revision: Revision;
  /** 0: none is known. */
  readonly generation: number;
  /** Whole: what cannot be read, or has texts that the columns cannot hold. */
  readonly block: BlockColumns | { readonly whole: Result<BlockRow, FieldError> };
}

/** A row of each allocation, with `SEPARATOR` between the texts; an empty one: undefined. */
interface BlockColumns {
  readonly prefix: Prefix;
  readonly node: string | null;
  readonly ordinals: readonly number[];
  readonly handles: string;
  readonly nodes: string;
  /** `NAMESPACE/NAME`. */
  readonly pods: string;
}

/** As in pages of pods. */
const SEPARATOR = " ";

/** Of blocks that exist. */
export function writeBlocks(updates: readonly RowUpdate<"IPAMBlock">[]): BlockPage {
  return updates.flatMap(({ key, value, origin }): BlockEntry[] => {
    if (value === undefined) return [];
    const block = (value.ok ? columnsOf(value.value) : undefined) ?? { whole: value };
    const { revision, generation = 0 } = origin;
    return [{ name: key.name, revision: revisionOf(revision), generation, block }];
  });
}

/** undefined: an attribute has a text that would be read as another. Attributes may be any text. */
function columnsOf({ prefix, node, allocations }: BlockRow): BlockColumns | undefined {
  const isPlain = ({ handle, node: of, pod }: Allocation): boolean =>
    isText(handle) && isText(of) && (pod === undefined || (isPart(pod.namespace) && isPart(pod.name)));
  if (!allocations.every(isPlain)) return undefined;
  return {
    prefix,
    node: node ?? null,
    ordinals: allocations.map(({ ordinal }) => ordinal),
    handles: allocations.map(({ handle }) => handle ?? "").join(SEPARATOR),
    nodes: allocations.map(({ node: of }) => of ?? "").join(SEPARATOR),
    pods: allocations.map(({ pod }) => (pod === undefined ? "" : `${pod.namespace}/${pod.name}`)).join(SEPARATOR),
  };
}

function isText(text: string | undefined): boolean {
  return text === undefined || (typeof text === "string" && text !== "" && !text.includes(SEPARATOR));
}

function isPart(text: string | undefined): boolean {
  return text !== undefined && isText(text) && !text.includes("/");
}

/** Rows as they were written; `seenAt` is when they came to be known. */
export function* readBlocks(page: BlockPage, seenAt: number): Generator<RowUpdate<"IPAMBlock">> {
  for (const { name, revision, generation, block } of page) {
    const key: Key<"IPAMBlock"> = { kind: "IPAMBlock", namespace: undefined, name };
    const origin = { revision: String(revision), generation: generation || undefined, seenAt };
    const value = "whole" in block ? block.whole : ok(blockOf(block));
    yield { kind: "IPAMBlock", key, id: formatKey(key), value, origin };
  }
}

function blockOf({ prefix, node, ordinals, handles, nodes, pods }: BlockColumns): BlockRow {
  const family = prefixFamily(prefix);
  const addressAt = addressesOf(prefix);
  const [handle, nodeOf, pod] = [handles, nodes, pods].map((text) => text.split(SEPARATOR));
  const allocations = ordinals.map((ordinal, i): Allocation => ({
    addr: addressAt(ordinal),
    ordinal,
    handle: handle?.[i] || undefined,
    node: nodeOf?.[i] || undefined,
    pod: podOf(pod?.[i] ?? ""),
  }));
  return { prefix, family, size: 2 ** (bitsOf(family) - prefixLength(prefix)), node: node ?? undefined, allocations };
}

function podOf(text: string): Key<"Pod"> | undefined {
  const slash = text.indexOf("/");
  return slash < 0 ? undefined : { kind: "Pod", namespace: text.slice(0, slash), name: text.slice(slash + 1) };
}
