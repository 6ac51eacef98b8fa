/** Chains, rules and sets as the kernel reports them. What `objects.ts` has no word for is undefined in them, never left out. */
import type { Message, Span } from "../netlink/reader.ts";
import { decodeElement, digestKeys, type RawElement } from "./elements.ts";
import type { KeyDigest } from "./key-digest.ts";
import { decodeExpression, isCounter } from "./expressions.ts";
import type { Expr, NftBaseChain, NftFlowtable, NftRuleState, NftSet, NftTableHold } from "./objects.ts";
import { decodeSet } from "./sets.ts";
import {
  FAMILY,
  HOOKS,
  NETDEV_INGRESS,
  NF_ACCEPT,
  NF_DROP,
  NFGENMSG,
  NFTA_CHAIN_HOOK,
  NFTA_CHAIN_NAME,
  NFTA_CHAIN_POLICY,
  NFTA_CHAIN_TABLE,
  NFTA_CHAIN_TYPE,
  NFTA_DEVICE_NAME,
  NFTA_FLOWTABLE_FLAGS,
  NFTA_FLOWTABLE_HOOK,
  NFTA_FLOWTABLE_HOOK_DEVS,
  NFTA_FLOWTABLE_HOOK_NUM,
  NFTA_FLOWTABLE_HOOK_PRIORITY,
  NFTA_FLOWTABLE_NAME,
  NFTA_FLOWTABLE_TABLE,
  NFTA_HOOK_HOOKNUM,
  NFTA_HOOK_PRIORITY,
  NFTA_LIST_ELEM,
  NFTA_RULE_CHAIN,
  NFTA_RULE_EXPRESSIONS,
  NFTA_RULE_HANDLE,
  NFTA_RULE_TABLE,
  NFTA_RULE_USERDATA,
  NFTA_SET_ELEM_LIST_ELEMENTS,
  NFTA_SET_COUNT,
  NFTA_SET_NAME,
  NFTA_SET_TABLE,
  NFTA_TABLE_FLAGS,
  NFTA_TABLE_NAME,
  NFTA_TABLE_OWNER,
  TABLE_FLAGS,
  UDATA_RULE_COMMENT,
} from "./wire.ts";
import type { TableId } from "./objects.ts";

/** Attributes of a message about an object of the table; undefined for other tables and for malformed messages. */
function attributesOf(message: Message, table: TableId, tableAttribute: number): ReadonlyMap<number, Span> | undefined {
  if (message.body.u8() !== FAMILY[table.family]) return undefined;
  const attributes = message.body.after(NFGENMSG)?.attributes();
  return attributes?.get(tableAttribute)?.text() === table.name ? attributes : undefined;
}

export function decodeTable(message: Message, table: TableId): NftTableHold | undefined {
  const attributes = attributesOf(message, table, NFTA_TABLE_NAME);
  if (attributes === undefined) return undefined;
  const bits = attributes.get(NFTA_TABLE_FLAGS)?.u32Be();
  const flags =
    bits !== undefined && bits >>> TABLE_FLAGS.length === 0
      ? TABLE_FLAGS.filter((_, bit) => (bits & (1 << bit)) !== 0)
      : undefined;
  return { flags, owner: attributes.get(NFTA_TABLE_OWNER)?.u32Be() };
}

export interface DecodedChain {
  readonly chain: string;
  readonly base: NftBaseChain | undefined;
  /** False for a base chain that is not one of `NftBaseChain`: of another type, or on another hook. */
  readonly known: boolean;
}

export function decodeChain(message: Message, table: TableId): DecodedChain | undefined {
  const attributes = attributesOf(message, table, NFTA_CHAIN_TABLE);
  const chain = attributes?.get(NFTA_CHAIN_NAME)?.text();
  if (attributes === undefined || chain === undefined) return undefined;
  const hookSpan = attributes.get(NFTA_CHAIN_HOOK);
  if (hookSpan === undefined) return { chain, base: undefined, known: true };
  const base = decodeBase(hookSpan, attributes);
  return { chain, base, known: base !== undefined };
}

function decodeBase(hookSpan: Span, attributes: ReadonlyMap<number, Span>): NftBaseChain | undefined {
  const parts = hookSpan.attributes();
  const hook = HOOKS[parts?.get(NFTA_HOOK_HOOKNUM)?.u32Be() ?? -1];
  const priority = parts?.get(NFTA_HOOK_PRIORITY)?.i32Be();
  const policy = attributes.get(NFTA_CHAIN_POLICY)?.u32Be();
  if (hook === undefined || priority === undefined || attributes.get(NFTA_CHAIN_TYPE)?.text() !== "filter")
    return undefined;
  if (policy !== NF_ACCEPT && policy !== NF_DROP) return undefined;
  return { hook, priority, policy: policy === NF_ACCEPT ? "accept" : "drop" };
}

export interface DecodedRule {
  readonly chain: string;
  readonly state: NftRuleState;
}

export function decodeRule(message: Message, table: TableId): DecodedRule | undefined {
  const attributes = attributesOf(message, table, NFTA_RULE_TABLE);
  const chain = attributes?.get(NFTA_RULE_CHAIN)?.text();
  const handle = attributes?.get(NFTA_RULE_HANDLE)?.u64Be();
  if (attributes === undefined || chain === undefined || handle === undefined) return undefined;
  const expressions: Expr[] = [];
  let known = true;
  let packets = 0n;
  let bytes = 0n;
  const whole = attributes.get(NFTA_RULE_EXPRESSIONS)?.eachAttribute((type, span) => {
    const expr = type === NFTA_LIST_ELEM ? decodeExpression(span, (p, b) => ([packets, bytes] = [p, b])) : undefined;
    if (expr === undefined) known = false;
    else expressions.push(expr);
  });
  const rule =
    known && whole !== false ? { expressions, comment: decodeComment(attributes.get(NFTA_RULE_USERDATA)) } : undefined;
  return { chain, state: { rule, handle, packets, bytes } };
}

export interface DecodedCount {
  readonly chain: string;
  readonly handle: bigint;
  readonly packets: bigint;
  readonly bytes: bigint;
}

/** Of a rule only its counter; everything else is passed over. */
export function decodeRuleCount(message: Message, table: TableId): DecodedCount | undefined {
  const attributes = attributesOf(message, table, NFTA_RULE_TABLE);
  const chain = attributes?.get(NFTA_RULE_CHAIN)?.text();
  const handle = attributes?.get(NFTA_RULE_HANDLE)?.u64Be();
  if (attributes === undefined || chain === undefined || handle === undefined) return undefined;
  let packets = 0n;
  let bytes = 0n;
  attributes.get(NFTA_RULE_EXPRESSIONS)?.eachAttribute((_type, span) => {
    if (isCounter(span)) decodeExpression(span, (p, b) => ([packets, bytes] = [p, b]));
  });
  return { chain, handle, packets, bytes };
}

/** Of a rule, if it is of that chain, only its handle, which comes before all that is large. */
export function decodeHandle(message: Message, table: TableId, chain?: string): bigint | undefined {
  const rule = message.body.u8() === FAMILY[table.family] ? message.body.after(NFGENMSG) : undefined;
  if (rule?.attribute(NFTA_RULE_TABLE)?.isText(table.name) !== true) return undefined;
  if (chain !== undefined && rule.attribute(NFTA_RULE_CHAIN)?.isText(chain) !== true) return undefined;
  return rule.attribute(NFTA_RULE_HANDLE)?.u64Be();
}

/** Type, length, value with one byte each for type and length. */
function decodeComment(userdata: Span | undefined): string | undefined {
  if (userdata === undefined) return undefined;
  let at = 0;
  for (;;) {
    const type = userdata.u8(at);
    const length = userdata.u8(at + 1);
    const value = userdata.after(at + 2);
    if (type === undefined || length === undefined || value === undefined || length > value.length) return undefined;
    // The text ends at its NUL, which is part of the value.
    if (type === UDATA_RULE_COMMENT) return value.text();
    at += 2 + length;
  }
}

export interface DecodedSet {
  readonly set: string;
  readonly is: NftSet | undefined;
  /** Elements, as the kernel counts them; undefined where it does not say. */
  readonly count: number | undefined;
}

export function decodeSetMessage(message: Message, table: TableId): DecodedSet | undefined {
  const attributes = attributesOf(message, table, NFTA_SET_TABLE);
  const set = attributes?.get(NFTA_SET_NAME)?.text();
  return attributes === undefined || set === undefined
    ? undefined
    : { set, is: decodeSet(attributes), count: attributes.get(NFTA_SET_COUNT)?.u32Be() };
}

export interface DecodedFlowtable extends NftFlowtable {
  readonly flowtable: string;
}

export function decodeFlowtable(message: Message, table: TableId): DecodedFlowtable | undefined {
  const attributes = attributesOf(message, table, NFTA_FLOWTABLE_TABLE);
  const flowtable = attributes?.get(NFTA_FLOWTABLE_NAME)?.text();
  if (attributes === undefined || flowtable === undefined) return undefined;
  const hook = attributes.get(NFTA_FLOWTABLE_HOOK)?.attributes();
  const isIngress = hook?.get(NFTA_FLOWTABLE_HOOK_NUM)?.u32Be() === NETDEV_INGRESS;
  const isPlain = (attributes.get(NFTA_FLOWTABLE_FLAGS)?.u32Be() ?? 0) === 0;
  const devices: string[] = [];
  hook?.get(NFTA_FLOWTABLE_HOOK_DEVS)?.eachAttribute((type, device) => {
    if (type === NFTA_DEVICE_NAME) devices.push(device.text());
  });
  const priority = isIngress && isPlain ? hook?.get(NFTA_FLOWTABLE_HOOK_PRIORITY)?.i32Be() : undefined;
  return { flowtable, priority, devices };
}

function elementsIn(message: Message): Span | undefined {
  return message.body.after(NFGENMSG)?.attributes()?.get(NFTA_SET_ELEM_LIST_ELEMENTS);
}

/** Adds the keys of the elements of one message of the set's dump; false when one is more than a key. */
export function digestElements(message: Message, into: KeyDigest): boolean {
  const list = elementsIn(message);
  return list === undefined || digestKeys(list, into);
}

/** Adds the elements of one message of the set's dump; false when one cannot be expressed. */
export function decodeElements(message: Message, into: RawElement[]): boolean {
  let known = true;
  const list = elementsIn(message);
  if (list === undefined) return true;
  const whole = list.eachAttribute((_type, span) => {
    const element = decodeElement(span);
    if (element === undefined) known = false;
    else into.push(element);
  });
  return known && whole;
}
