/** Command: one message of a batch with what it may touch; names and chains in it as the kernel looks them up. */
import { ENOENT } from "../../errno.ts";
import type { Span } from "../../netlink/reader.ts";
import { ERANGE, refuse, required } from "../refusal.ts";
import { type FakeChain, type FakeTable, NAME_MAX_BYTES } from "./objects.ts";
import type { Transaction } from "./transaction.ts";

export type Attributes = ReadonlyMap<number, Span>;

/** One command's view of the transaction. */
export interface Command {
  readonly table: FakeTable;
  readonly attributes: Attributes;
  readonly flags: number;
  readonly transaction: Transaction;
}

/** A name, of at most what the kernel allows (ERANGE). */
export function nameAt(attributes: Attributes, type: number): string {
  const span = required(attributes.get(type));
  if (span.length > NAME_MAX_BYTES + 1) refuse(ERANGE);
  return span.text();
}

export function chainAt({ table, attributes }: Command, type: number): FakeChain {
  return table.chains.get(nameAt(attributes, type)) ?? refuse(ENOENT);
}
