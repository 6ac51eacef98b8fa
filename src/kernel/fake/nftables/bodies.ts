/** Bodies: nf_tables objects as the kernel tells of them, in dumps and notifications alike. Source: linux net/netfilter/nf_tables_api.c, nf_tables_fill_*. */
import type { Writer } from "../../netlink/writer.ts";
import {
  NFGENMSG,
  NFTA_CHAIN_HOOK,
  NFTA_CHAIN_NAME,
  NFTA_CHAIN_POLICY,
  NFTA_CHAIN_TABLE,
  NFTA_CHAIN_TYPE,
  NFTA_DATA_VALUE,
  NETDEV_INGRESS,
  NFTA_DEVICE_NAME,
  NFTA_FLOWTABLE_FLAGS,
  NFTA_FLOWTABLE_HOOK,
  NFTA_FLOWTABLE_HOOK_DEVS,
  NFTA_FLOWTABLE_HOOK_NUM,
  NFTA_FLOWTABLE_HOOK_PRIORITY,
  NFTA_FLOWTABLE_NAME,
  NFTA_FLOWTABLE_TABLE,
  NFTA_GEN_ID,
  NFTA_GEN_PROC_NAME,
  NFTA_GEN_PROC_PID,
  NFTA_HOOK_HOOKNUM,
  NFTA_HOOK_PRIORITY,
  NFTA_LIST_ELEM,
  NFTA_RULE_CHAIN,
  NFTA_RULE_EXPRESSIONS,
  NFTA_RULE_HANDLE,
  NFTA_RULE_TABLE,
  NFTA_RULE_USERDATA,
  NFTA_SET_COUNT,
  NFTA_SET_DATA_LEN,
  NFTA_SET_DATA_TYPE,
  NFTA_SET_DESC,
  NFTA_SET_DESC_CONCAT,
  NFTA_SET_ELEM_DATA,
  NFTA_SET_ELEM_FLAGS,
  NFTA_SET_ELEM_KEY,
  NFTA_SET_ELEM_KEY_END,
  NFTA_SET_ELEM_LIST_ELEMENTS,
  NFTA_SET_ELEM_LIST_SET,
  NFTA_SET_ELEM_LIST_TABLE,
  NFTA_SET_FIELD_LEN,
  NFTA_SET_FLAGS,
  NFTA_SET_KEY_LEN,
  NFTA_SET_KEY_TYPE,
  NFTA_SET_NAME,
  NFTA_SET_TABLE,
  NFTA_SET_USERDATA,
  NFTA_TABLE_FLAGS,
  NFTA_TABLE_NAME,
  NFTA_TABLE_OWNER,
  NFT_SET_ELEM_INTERVAL_END,
} from "../../nftables/wire.ts";
import type { Body } from "../messages.ts";
import type { FakeElement } from "./elements.ts";
import { writeExpression, writeVerdict } from "./expressions.ts";
import {
  type FakeChain,
  type FakeFlowtable,
  type FakeRule,
  type FakeSet,
  type FakeTable,
  TABLE_OWNER,
} from "./objects.ts";

const NFTA_TABLE_USE = 3;
const NFTA_TABLE_HANDLE = 4;
const NFTA_FLOWTABLE_USE = 4;
const NFTA_FLOWTABLE_HANDLE = 5;
const NFTA_CHAIN_HANDLE = 2;
const NFTA_CHAIN_USE = 6;
const NFTA_SET_HANDLE = 16;
const NFTA_SET_ELEM_USERDATA = 6;
const NFTA_SET_DESC_SIZE = 1;

function header(w: Writer, family: number, generation: number): void {
  const at = w.header(NFGENMSG);
  w.putU8(at, family);
  w.putU16Be(at + 2, generation & 0xffff);
}

export function tableBody(table: FakeTable, generation: number): Body {
  return (w) => {
    header(w, table.family, generation);
    w.text(NFTA_TABLE_NAME, table.name);
    w.u32Be(NFTA_TABLE_USE, table.chains.size + table.sets.size + table.flowtables.size);
    w.u64Be(NFTA_TABLE_HANDLE, BigInt(table.handle));
    w.u32Be(NFTA_TABLE_FLAGS, table.flags);
    if ((table.flags & TABLE_OWNER) !== 0 && table.owner !== undefined) w.u32Be(NFTA_TABLE_OWNER, table.owner);
  };
}

export function chainBody(table: FakeTable, chain: FakeChain, generation: number): Body {
  return (w) => {
    header(w, table.family, generation);
    w.text(NFTA_CHAIN_TABLE, table.name);
    w.text(NFTA_CHAIN_NAME, chain.name);
    w.u64Be(NFTA_CHAIN_HANDLE, BigInt(chain.handle));
    if (chain.base !== undefined) {
      const hook = w.open(NFTA_CHAIN_HOOK);
      w.u32Be(NFTA_HOOK_HOOKNUM, chain.base.hook);
      w.i32Be(NFTA_HOOK_PRIORITY, chain.base.priority);
      w.close(hook);
      w.u32Be(NFTA_CHAIN_POLICY, chain.base.policy);
      w.text(NFTA_CHAIN_TYPE, chain.base.type);
    }
    w.u32Be(NFTA_CHAIN_USE, chain.rules.length + chain.references);
  };
}

export function ruleBody(table: FakeTable, chain: FakeChain, rule: FakeRule, generation: number): Body {
  return (w) => {
    header(w, table.family, generation);
    w.text(NFTA_RULE_TABLE, table.name);
    w.text(NFTA_RULE_CHAIN, chain.name);
    w.u64Be(NFTA_RULE_HANDLE, BigInt(rule.handle));
    const list = w.open(NFTA_RULE_EXPRESSIONS);
    for (const expression of rule.expressions) writeExpression(w, expression, rule.packets, rule.bytes);
    w.close(list);
    if (rule.userdata !== undefined) w.bytesOf(NFTA_RULE_USERDATA, rule.userdata);
  };
}

export function flowtableBody(
  table: FakeTable,
  { name, handle, priority, devices, references }: FakeFlowtable,
  generation: number,
): Body {
  return (w) => {
    header(w, table.family, generation);
    w.text(NFTA_FLOWTABLE_TABLE, table.name);
    w.text(NFTA_FLOWTABLE_NAME, name);
    w.u64Be(NFTA_FLOWTABLE_HANDLE, BigInt(handle));
    w.u32Be(NFTA_FLOWTABLE_USE, references);
    w.u32Be(NFTA_FLOWTABLE_FLAGS, 0);
    const hook = w.open(NFTA_FLOWTABLE_HOOK);
    w.u32Be(NFTA_FLOWTABLE_HOOK_NUM, NETDEV_INGRESS);
    w.i32Be(NFTA_FLOWTABLE_HOOK_PRIORITY, priority);
    const list = w.open(NFTA_FLOWTABLE_HOOK_DEVS);
    for (const device of devices) w.text(NFTA_DEVICE_NAME, device.name);
    w.close(list);
    w.close(hook);
  };
}

export function setBody(table: FakeTable, { name, handle, is, elements }: FakeSet, generation: number): Body {
  return (w) => {
    header(w, table.family, generation);
    w.text(NFTA_SET_TABLE, table.name);
    w.text(NFTA_SET_NAME, name);
    w.u64Be(NFTA_SET_HANDLE, BigInt(handle));
    if (is.flags !== 0) w.u32Be(NFTA_SET_FLAGS, is.flags);
    w.u32Be(NFTA_SET_KEY_TYPE, is.keyType);
    w.u32Be(NFTA_SET_KEY_LEN, is.keyLength);
    if (is.dataType !== undefined) {
      w.u32Be(NFTA_SET_DATA_TYPE, is.dataType);
      w.u32Be(NFTA_SET_DATA_LEN, 0);
    }
    if (is.userdata !== undefined) w.bytesOf(NFTA_SET_USERDATA, is.userdata);
    const description = w.open(NFTA_SET_DESC);
    if (is.size !== undefined) w.u32Be(NFTA_SET_DESC_SIZE, is.size);
    if (is.fields !== undefined) {
      const list = w.open(NFTA_SET_DESC_CONCAT);
      for (const length of is.fields) {
        const field = w.open(NFTA_LIST_ELEM);
        w.u32Be(NFTA_SET_FIELD_LEN, length);
        w.close(field);
      }
      w.close(list);
    }
    w.close(description);
    w.u32Be(NFTA_SET_COUNT, elements.size);
  };
}

export function elementsBody(
  table: FakeTable,
  set: string,
  elements: readonly FakeElement[],
  generation: number,
): Body {
  return (w) => {
    header(w, table.family, generation);
    w.text(NFTA_SET_ELEM_LIST_TABLE, table.name);
    w.text(NFTA_SET_ELEM_LIST_SET, set);
    const list = w.open(NFTA_SET_ELEM_LIST_ELEMENTS);
    for (const element of elements) writeElement(w, element);
    w.close(list);
  };
}

function writeElement(w: Writer, { key, keyEnd, isEnd, verdict, userdata }: FakeElement): void {
  const open = w.open(NFTA_LIST_ELEM);
  const value = (type: number, hex: string): void => {
    const nested = w.open(type);
    w.hex(NFTA_DATA_VALUE, hex);
    w.close(nested);
  };
  value(NFTA_SET_ELEM_KEY, key);
  if (keyEnd !== undefined) value(NFTA_SET_ELEM_KEY_END, keyEnd);
  if (verdict !== undefined) {
    const data = w.open(NFTA_SET_ELEM_DATA);
    writeVerdict(w, verdict);
    w.close(data);
  }
  if (isEnd) w.u32Be(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
  if (userdata !== undefined) w.bytesOf(NFTA_SET_ELEM_USERDATA, userdata);
  w.close(open);
}

export function generationBody(generation: number, by?: { readonly pid: number; readonly name: string }): Body {
  return (w) => {
    header(w, 0, generation);
    w.u32Be(NFTA_GEN_ID, generation);
    if (by === undefined) return;
    w.u32Be(NFTA_GEN_PROC_PID, by.pid);
    w.text(NFTA_GEN_PROC_NAME, by.name);
  };
}
