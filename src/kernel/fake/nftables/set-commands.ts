/** Commands on sets and their elements. Source: linux net/netfilter/nf_tables_api.c, nf_tables_newset, nft_add_set_elem, nft_del_setelem. */
import { bytesToHex } from "../../../lib/bytes.ts";
import { EEXIST, EINVAL, ENOENT, EOPNOTSUPP } from "../../errno.ts";
import type { Span } from "../../netlink/reader.ts";
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from "../../netlink/writer.ts";
import {
  DATA_TYPE_VERDICT,
  NFT_MSG_DELSETELEM,
  NFT_MSG_NEWSET,
  NFT_MSG_NEWSETELEM,
  NFT_SET_CONCAT,
  NFT_SET_ELEM_INTERVAL_END,
  NFT_SET_INTERVAL,
  NFT_SET_MAP,
  NFTA_DATA_VALUE,
  NFTA_SET_DATA_TYPE,
  NFTA_SET_DESC,
  NFTA_SET_DESC_CONCAT,
  NFTA_SET_ELEM_DATA,
  NFTA_SET_ELEM_FLAGS,
  NFTA_SET_ELEM_KEY,
  NFTA_SET_ELEM_KEY_END,
  NFTA_SET_ELEM_LIST_ELEMENTS,
  NFTA_SET_ELEM_LIST_SET,
  NFTA_SET_FIELD_LEN,
  NFTA_SET_FLAGS,
  NFTA_SET_ID,
  NFTA_SET_KEY_LEN,
  NFTA_SET_KEY_TYPE,
  NFTA_SET_NAME,
  NFTA_SET_USERDATA,
} from "../../nftables/wire.ts";
import { ENFILE, refuse, required, unmodelled } from "../refusal.ts";
import { elementsBody, setBody } from "./bodies.ts";
import { type Attributes, type Command, nameAt } from "./command.ts";
import { type FakeElement, SetElements } from "./elements.ts";
import { parseVerdict } from "./expressions.ts";
import type { FakeSet, FakeTable } from "./objects.ts";
import { refer, removeSet } from "./references.ts";
import type { FakeSetIs } from "./values.ts";

const KNOWN_FLAGS = NFT_SET_INTERVAL | NFT_SET_MAP | NFT_SET_CONCAT;
const NFTA_SET_DESC_SIZE = 1;
const KEY_MAX_BYTES = 64;
const NFTA_SET_ELEM_USERDATA = 6;

export function addSet({ table, attributes, flags, transaction }: Command): void {
  const name = nameAt(attributes, NFTA_SET_NAME);
  transaction.ask("add", `set ${name}`);
  required(attributes.get(NFTA_SET_ID));
  const is = setIs(attributes);
  const there = table.sets.get(name);
  if (there !== undefined) {
    if ((flags & NLM_F_EXCL) !== 0) refuse(EEXIST);
    if ((flags & NLM_F_REPLACE) !== 0) refuse(EOPNOTSUPP);
    if (!isSame(there.is, is)) refuse(EEXIST);
    return;
  }
  if ((flags & NLM_F_CREATE) === 0) refuse(ENOENT);
  const set: FakeSet = { name, handle: ++table.handles, is, elements: new SetElements(is), references: 0 };
  table.sets.set(name, set);
  transaction.did(() => void table.sets.delete(name), {
    type: NFT_MSG_NEWSET,
    body: setBody(table, set, transaction.generation),
  });
}

function setIs(attributes: Attributes): FakeSetIs {
  const flags = attributes.get(NFTA_SET_FLAGS)?.u32Be() ?? 0;
  if ((flags & ~KNOWN_FLAGS) !== 0) unmodelled(`sets of flags ${flags}`);
  const keyLength = required(attributes.get(NFTA_SET_KEY_LEN)?.u32Be());
  if (keyLength === 0 || keyLength > KEY_MAX_BYTES) refuse(EINVAL);
  const dataType = attributes.get(NFTA_SET_DATA_TYPE)?.u32Be();
  if ((dataType !== undefined) !== ((flags & NFT_SET_MAP) !== 0)) refuse(EINVAL);
  if (dataType !== undefined && dataType !== DATA_TYPE_VERDICT) unmodelled("maps of data");
  const description = attributes.get(NFTA_SET_DESC)?.attributes();
  const fields = fieldsOf(description?.get(NFTA_SET_DESC_CONCAT));
  if ((fields !== undefined) !== ((flags & NFT_SET_CONCAT) !== 0)) refuse(EINVAL);
  if (fields !== undefined && fields.reduce((sum, bytes) => sum + Math.ceil(bytes / 4) * 4, 0) !== keyLength)
    refuse(EINVAL);
  return {
    flags,
    keyType: attributes.get(NFTA_SET_KEY_TYPE)?.u32Be() ?? 0,
    keyLength,
    dataType,
    fields,
    size: description?.get(NFTA_SET_DESC_SIZE)?.u32Be(),
    userdata: attributes.get(NFTA_SET_USERDATA)?.copy(),
  };
}

function fieldsOf(list: Span | undefined): readonly number[] | undefined {
  if (list === undefined) return undefined;
  const fields: number[] = [];
  list.eachAttribute((_type, field) => {
    fields.push(required(field.attributes()?.get(NFTA_SET_FIELD_LEN)?.u32Be()));
  });
  return fields;
}

/** nft_set_is_same: all that the kernel acts on. */
function isSame(a: FakeSetIs, b: FakeSetIs): boolean {
  return (
    a.flags === b.flags &&
    a.keyType === b.keyType &&
    a.keyLength === b.keyLength &&
    a.dataType === b.dataType &&
    a.size === b.size &&
    JSON.stringify(a.fields) === JSON.stringify(b.fields)
  );
}

export function deleteSet(command: Command): void {
  const set = setAt(command, NFTA_SET_NAME);
  command.transaction.ask("delete", `set ${set.name}`);
  removeSet(command.transaction, command.table, set);
}

function setAt({ table, attributes }: Command, type: number): FakeSet {
  return table.sets.get(nameAt(attributes, type)) ?? refuse(ENOENT);
}

/** Visits the elements of one message. The kernel stops at the first that it refuses. */
function eachElement(command: Command, set: FakeSet, withData: boolean, visit: (element: FakeElement) => void): void {
  const list = command.attributes.get(NFTA_SET_ELEM_LIST_ELEMENTS);
  if (list === undefined) return refuse(EINVAL);
  const whole = list.eachAttribute((_type, span) => visit(elementOf(span, set, command.table, withData)));
  if (!whole) refuse(EINVAL);
}

export function addElements(command: Command): void {
  const { table, flags, transaction } = command;
  const set = setAt(command, NFTA_SET_ELEM_LIST_SET);
  eachElement(command, set, true, (element) => {
    transaction.ask("add", `element ${set.name} ${element.key}`);
    if ((element.verdict === undefined) !== ((set.is.flags & NFT_SET_MAP) === 0 || element.isEnd)) refuse(EINVAL);
    const limit = transaction.limitOf(set.name) ?? set.is.size;
    const undo = set.elements.insert(element, (flags & NLM_F_EXCL) !== 0);
    if (undo === undefined) return;
    if (limit !== undefined && set.elements.size > limit) {
      undo();
      refuse(ENFILE);
    }
    refer(table, element.verdict, 1);
    transaction.jumps ||= element.verdict?.chain !== undefined;
    const back = (): void => {
      refer(table, element.verdict, -1);
      undo();
    };
    transaction.did(back, {
      type: NFT_MSG_NEWSETELEM,
      body: elementsBody(table, set.name, [element], transaction.generation),
    });
  });
}

export function deleteElements(command: Command): void {
  const { table, transaction } = command;
  const set = setAt(command, NFTA_SET_ELEM_LIST_SET);
  // Of what goes the kernel reads the key alone.
  eachElement(command, set, false, (wanted) => {
    transaction.ask("delete", `element ${set.name} ${wanted.key}`);
    const { element, undo } = set.elements.remove(wanted);
    refer(table, element.verdict, -1);
    const back = (): void => {
      undo();
      refer(table, element.verdict, 1);
    };
    transaction.did(back, {
      type: NFT_MSG_DELSETELEM,
      body: elementsBody(table, set.name, [element], transaction.generation),
    });
  });
}

const ELEMENT_ATTRIBUTES: ReadonlySet<number> = new Set([
  NFTA_SET_ELEM_KEY,
  NFTA_SET_ELEM_KEY_END,
  NFTA_SET_ELEM_DATA,
  NFTA_SET_ELEM_FLAGS,
  NFTA_SET_ELEM_USERDATA,
]);

function elementOf(span: Span, { is }: FakeSet, table: FakeTable, withData: boolean): FakeElement {
  const parts = required(span.attributes());
  for (const type of parts.keys()) if (!ELEMENT_ATTRIBUTES.has(type)) unmodelled(`attribute ${type} of an element`);
  const flags = parts.get(NFTA_SET_ELEM_FLAGS)?.u32Be() ?? 0;
  if ((flags & ~NFT_SET_ELEM_INTERVAL_END) !== 0) unmodelled(`elements of flags ${flags}`);
  const isEnd = flags !== 0;
  const isInterval = (is.flags & NFT_SET_INTERVAL) !== 0;
  const isConcatenation = isInterval && (is.flags & NFT_SET_CONCAT) !== 0;
  if (isEnd && (!isInterval || isConcatenation)) refuse(EINVAL);
  if (parts.has(NFTA_SET_ELEM_KEY_END) && !isConcatenation) refuse(EINVAL);
  const data = withData ? parts.get(NFTA_SET_ELEM_DATA) : undefined;
  if (data !== undefined && (is.flags & NFT_SET_MAP) === 0) refuse(EINVAL);
  const keyEnd = parts.get(NFTA_SET_ELEM_KEY_END);
  return {
    key: keyOf(required(parts.get(NFTA_SET_ELEM_KEY)), is.keyLength),
    keyEnd: keyEnd === undefined ? undefined : keyOf(keyEnd, is.keyLength),
    isEnd,
    verdict: data === undefined ? undefined : parseVerdict(data, table),
    userdata: parts.get(NFTA_SET_ELEM_USERDATA)?.copy(),
  };
}

function keyOf(nested: Span, length: number): string {
  const bytes = required(nested.attributes()?.get(NFTA_DATA_VALUE)).copy();
  return bytes.length === length ? bytesToHex(bytes) : refuse(EINVAL);
}
