/** Commands as messages: each command becomes one message, or several when its elements do not fit into one. */
import { assertNever, BugError } from "../../lib/bug.ts";
import { NLM_F_APPEND, NLM_F_CREATE, NLM_F_ECHO, type Writer } from "../netlink/writer.ts";
import { encodeElement } from "./elements.ts";
import { encodeExpression } from "./expressions.ts";
import type { NftBaseChain, NftCommand, NftRule, NftTableFlag, TableId } from "./objects.ts";
import { encodeSet } from "./sets.ts";
import {
  COMMENT_MAX_BYTES,
  FAMILY,
  HOOKS,
  NETDEV_INGRESS,
  NF_ACCEPT,
  NF_DROP,
  NFGENMSG,
  NFT_MSG_DELCHAIN,
  NFT_MSG_DELFLOWTABLE,
  NFT_MSG_DELRULE,
  NFT_MSG_DELSET,
  NFT_MSG_DELSETELEM,
  NFT_MSG_DELTABLE,
  NFT_MSG_NEWCHAIN,
  NFT_MSG_NEWFLOWTABLE,
  NFT_MSG_NEWRULE,
  NFT_MSG_NEWSET,
  NFT_MSG_NEWSETELEM,
  NFT_MSG_NEWTABLE,
  NFTA_CHAIN_HOOK,
  NFTA_CHAIN_NAME,
  NFTA_CHAIN_POLICY,
  NFTA_CHAIN_TYPE,
  NFTA_DEVICE_NAME,
  NFTA_FLOWTABLE_HOOK,
  NFTA_FLOWTABLE_HOOK_DEVS,
  NFTA_FLOWTABLE_HOOK_NUM,
  NFTA_FLOWTABLE_HOOK_PRIORITY,
  NFTA_FLOWTABLE_NAME,
  NFTA_HOOK_HOOKNUM,
  NFTA_HOOK_PRIORITY,
  NFTA_RULE_CHAIN,
  NFTA_RULE_EXPRESSIONS,
  NFTA_RULE_HANDLE,
  NFTA_RULE_POSITION,
  NFTA_RULE_TABLE,
  NFTA_RULE_USERDATA,
  NFTA_SET_ELEM_LIST_ELEMENTS,
  NFTA_SET_ELEM_LIST_SET,
  NFTA_SET_ELEM_LIST_TABLE,
  NFTA_SET_NAME,
  NFTA_TABLE_FLAGS,
  NFTA_TABLE_NAME,
  TABLE_FLAGS,
  UDATA_RULE_COMMENT,
} from "./wire.ts";

/** Where messages go: `message` starts one and returns its sequence number. */
export interface MessageSink {
  readonly writer: Writer;
  message(type: number, flags: number): number;
}

/** An element list is one attribute of at most 64 KiB; one element may take up to some 500 bytes. */
const LIST_BYTES = 60_000;
const text = new TextEncoder();

/** Writes struct nfgenmsg. */
export function encodeFamily(w: Writer, family: number, resource = 0): void {
  const at = w.header(NFGENMSG);
  w.putU8(at, family);
  w.putU16Be(at + 2, resource);
}

/** Writes the command's messages; returns the sequence number of the first. */
export function encodeCommand(sink: MessageSink, table: TableId, command: NftCommand): number {
  const { writer } = sink;
  const start = (type: number, flags: number): number => {
    const sequence = sink.message(type, flags);
    encodeFamily(writer, FAMILY[table.family]);
    // The attribute that names the table is number 1 in all of these messages.
    writer.text(NFTA_TABLE_NAME, table.name);
    return sequence;
  };
  switch (command.do) {
    case "add-table":
      return start(NFT_MSG_NEWTABLE, NLM_F_CREATE);
    case "own-table": {
      const sequence = start(NFT_MSG_NEWTABLE, NLM_F_CREATE);
      writer.u32Be(NFTA_TABLE_FLAGS, flagBit("owner") | flagBit("persist"));
      return sequence;
    }
    case "delete-table":
      return start(NFT_MSG_DELTABLE, 0);
    case "add-chain": {
      const sequence = start(NFT_MSG_NEWCHAIN, NLM_F_CREATE);
      writer.text(NFTA_CHAIN_NAME, command.chain);
      if (command.base !== undefined) encodeBase(writer, command.base);
      return sequence;
    }
    case "delete-chain":
      return withName(writer, start(NFT_MSG_DELCHAIN, 0), NFTA_CHAIN_NAME, command.chain);
    case "flush-chain":
      return withName(writer, start(NFT_MSG_DELRULE, 0), NFTA_RULE_CHAIN, command.chain);
    case "add-rule": {
      const sequence = withName(
        writer,
        // Without a position it goes to the end.
        start(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND),
        NFTA_RULE_CHAIN,
        command.chain,
      );
      encodeRule(writer, command.rule);
      return sequence;
    }
    case "insert-rule": {
      const { chain, rule, place } = command;
      // Without NLM_F_APPEND it goes before its position.
      const flags = NLM_F_CREATE | NLM_F_ECHO | (place === "last" ? NLM_F_APPEND : 0);
      const sequence = withName(writer, start(NFT_MSG_NEWRULE, flags), NFTA_RULE_CHAIN, chain);
      encodeRule(writer, rule);
      if (place !== "last") writer.u64Be(NFTA_RULE_POSITION, place);
      return sequence;
    }
    case "delete-rule": {
      const sequence = withName(writer, start(NFT_MSG_DELRULE, 0), NFTA_RULE_CHAIN, command.chain);
      writer.u64Be(NFTA_RULE_HANDLE, command.handle);
      return sequence;
    }
    case "add-flowtable": {
      const sequence = withName(
        writer,
        start(NFT_MSG_NEWFLOWTABLE, NLM_F_CREATE),
        NFTA_FLOWTABLE_NAME,
        command.flowtable,
      );
      encodeDevices(writer, command.priority, command.devices);
      return sequence;
    }
    case "delete-flowtable":
      return withName(writer, start(NFT_MSG_DELFLOWTABLE, 0), NFTA_FLOWTABLE_NAME, command.flowtable);
    case "delete-devices": {
      const sequence = withName(writer, start(NFT_MSG_DELFLOWTABLE, 0), NFTA_FLOWTABLE_NAME, command.flowtable);
      encodeDevices(writer, command.priority, command.devices);
      return sequence;
    }
    case "add-set": {
      const sequence = withName(writer, start(NFT_MSG_NEWSET, NLM_F_CREATE), NFTA_SET_NAME, command.set);
      encodeSet(writer, command.is, sequence);
      return sequence;
    }
    case "delete-set":
      return withName(writer, start(NFT_MSG_DELSET, 0), NFTA_SET_NAME, command.set);
    case "add-elements":
      return encodeElements(writer, command, () => start(NFT_MSG_NEWSETELEM, NLM_F_CREATE));
    case "delete-elements":
      return encodeElements(writer, command, () => start(NFT_MSG_DELSETELEM, 0));
    default:
      return assertNever(command);
  }
}

function flagBit(flag: NftTableFlag): number {
  return 1 << TABLE_FLAGS.indexOf(flag);
}

function withName(w: Writer, sequence: number, attribute: number, name: string): number {
  w.text(attribute, name);
  return sequence;
}

function encodeBase(w: Writer, base: NftBaseChain): void {
  const hook = w.open(NFTA_CHAIN_HOOK);
  w.u32Be(NFTA_HOOK_HOOKNUM, HOOKS.indexOf(base.hook));
  w.i32Be(NFTA_HOOK_PRIORITY, base.priority);
  w.close(hook);
  w.u32Be(NFTA_CHAIN_POLICY, base.policy === "accept" ? NF_ACCEPT : NF_DROP);
  w.text(NFTA_CHAIN_TYPE, "filter");
}

/** Where a flowtable looks at packets: at the hook ingress of these devices. */
function encodeDevices(w: Writer, priority: number, devices: readonly string[]): void {
  const hook = w.open(NFTA_FLOWTABLE_HOOK);
  w.u32Be(NFTA_FLOWTABLE_HOOK_NUM, NETDEV_INGRESS);
  w.i32Be(NFTA_FLOWTABLE_HOOK_PRIORITY, priority);
  const list = w.open(NFTA_FLOWTABLE_HOOK_DEVS);
  for (const device of devices) w.text(NFTA_DEVICE_NAME, device);
  w.close(list);
  w.close(hook);
}

function encodeRule(w: Writer, rule: NftRule): void {
  const list = w.open(NFTA_RULE_EXPRESSIONS);
  for (const expr of rule.expressions) encodeExpression(w, expr);
  w.close(list);
  if (rule.comment === undefined) return;
  const bytes = text.encode(rule.comment);
  if (bytes.length > COMMENT_MAX_BYTES)
    throw new BugError(
      `comment ${JSON.stringify(rule.comment)} has ${bytes.length} bytes, must be at most ${COMMENT_MAX_BYTES}`,
    );
  const userdata = new Uint8Array(bytes.length + 3);
  userdata.set([UDATA_RULE_COMMENT, bytes.length + 1]);
  userdata.set(bytes, 2);
  w.bytesOf(NFTA_RULE_USERDATA, userdata);
}

type ElementCommand = Extract<NftCommand, { do: "add-elements" | "delete-elements" }>;

function encodeElements(w: Writer, command: ElementCommand, start: () => number): number {
  let first: number | undefined;
  let next = 0;
  do {
    const sequence = start();
    first ??= sequence;
    w.text(NFTA_SET_ELEM_LIST_SET, command.set);
    const list = w.open(NFTA_SET_ELEM_LIST_ELEMENTS);
    const limit = w.length + LIST_BYTES;
    for (
      let element = command.elements[next];
      element !== undefined && w.length < limit;
      element = command.elements[next]
    ) {
      encodeElement(w, command.is, element);
      next++;
    }
    w.close(list);
  } while (next < command.elements.length);
  return first;
}

/** The header and attributes with which the elements of one set are asked for. */
export function encodeElementQuery(w: Writer, table: TableId, set: string): void {
  encodeFamily(w, FAMILY[table.family]);
  w.text(NFTA_SET_ELEM_LIST_TABLE, table.name);
  w.text(NFTA_SET_ELEM_LIST_SET, set);
}

/** The header and table name with which the chains, rules or sets of a table are asked for; of the rules those of one chain, if it is given. */
export function encodeTableQuery(w: Writer, table: TableId, chain?: string): void {
  encodeFamily(w, FAMILY[table.family]);
  w.text(NFTA_RULE_TABLE, table.name);
  if (chain !== undefined) w.text(NFTA_RULE_CHAIN, chain);
}

/** What a command does, for an error message: `add rule to chain "x"`. */
export function describeCommand(command: NftCommand): string {
  switch (command.do) {
    case "add-table":
      return "add table";
    case "own-table":
      return "own table";
    case "delete-table":
      return "delete table";
    case "add-chain":
      return `add chain ${JSON.stringify(command.chain)}`;
    case "delete-chain":
      return `delete chain ${JSON.stringify(command.chain)}`;
    case "flush-chain":
      return `flush chain ${JSON.stringify(command.chain)}`;
    case "add-rule":
    case "insert-rule":
      return `add rule to chain ${JSON.stringify(command.chain)}`;
    case "delete-rule":
      return `delete rule of chain ${JSON.stringify(command.chain)}`;
    case "add-flowtable":
      return `add flowtable ${JSON.stringify(command.flowtable)}`;
    case "delete-flowtable":
      return `delete flowtable ${JSON.stringify(command.flowtable)}`;
    case "delete-devices":
      return `delete devices ${command.devices.join(", ")} of flowtable ${JSON.stringify(command.flowtable)}`;
    case "add-set":
      return `add set ${JSON.stringify(command.set)}`;
    case "delete-set":
      return `delete set ${JSON.stringify(command.set)}`;
    case "add-elements":
      return `add elements to set ${JSON.stringify(command.set)}`;
    case "delete-elements":
      return `delete elements of set ${JSON.stringify(command.set)}`;
    default:
      return assertNever(command);
  }
}
