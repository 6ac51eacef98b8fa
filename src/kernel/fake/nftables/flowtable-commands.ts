/** Commands on flowtables and their devices. Source: linux net/netfilter/nf_tables_api.c, nf_tables_newflowtable, nft_flowtable_update, nft_delflowtable_hook. */
import { EBUSY, EEXIST, EINVAL, ENOENT, EOPNOTSUPP } from "../../errno.ts";
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from "../../netlink/writer.ts";
import {
  NETDEV_INGRESS,
  NFT_MSG_DELFLOWTABLE,
  NFT_MSG_NEWFLOWTABLE,
  NFTA_DEVICE_NAME,
  NFTA_FLOWTABLE_FLAGS,
  NFTA_FLOWTABLE_HOOK,
  NFTA_FLOWTABLE_HOOK_DEVS,
  NFTA_FLOWTABLE_HOOK_NUM,
  NFTA_FLOWTABLE_HOOK_PRIORITY,
  NFTA_FLOWTABLE_NAME,
} from "../../nftables/wire.ts";
import { refuse, required, unmodelled } from "../refusal.ts";
import { flowtableBody } from "./bodies.ts";
import { type Command, nameAt } from "./command.ts";
import type { FakeDevice, FakeFlowtable, FakeTable } from "./objects.ts";
import type { Transaction } from "./transaction.ts";

interface Hook {
  readonly priority: number | undefined;
  readonly devices: readonly FakeDevice[];
}

export function addFlowtable(command: Command): void {
  const { table, attributes, flags, transaction } = command;
  const name = nameAt(attributes, NFTA_FLOWTABLE_NAME);
  transaction.ask("add", `flowtable ${name}`);
  if (!transaction.hasFlowtables) refuse(ENOENT);
  if ((attributes.get(NFTA_FLOWTABLE_FLAGS)?.u32Be() ?? 0) !== 0) unmodelled("flowtables with flags");
  const there = table.flowtables.get(name);
  if (there !== undefined) {
    if ((flags & NLM_F_EXCL) !== 0) refuse(EEXIST);
    if ((flags & NLM_F_REPLACE) !== 0) refuse(EOPNOTSUPP);
  } else if ((flags & NLM_F_CREATE) === 0) refuse(ENOENT);
  const { priority, devices } = hookOf(command);
  for (const device of devices) transaction.ask("add", `device ${device.name}`);
  if (there !== undefined) {
    if (priority !== undefined && priority !== there.priority) refuse(EOPNOTSUPP);
    const added = devices.filter(({ name: one }) => there.devices.every((device) => device.name !== one));
    return setDevices(transaction, table, there, [...there.devices, ...added], NFT_MSG_NEWFLOWTABLE);
  }
  const handle = ++table.handles;
  const made: FakeFlowtable = { name, handle, priority: required(priority), devices, references: 0 };
  table.flowtables.set(name, made);
  transaction.did(() => void table.flowtables.delete(name), {
    type: NFT_MSG_NEWFLOWTABLE,
    body: flowtableBody(table, made, transaction.generation),
  });
}

/** nft_flowtable_parse_hook: every device must exist, and none is named twice. */
function hookOf({ attributes, transaction }: Command): Hook {
  const hook = required(attributes.get(NFTA_FLOWTABLE_HOOK)?.attributes());
  const number = hook.get(NFTA_FLOWTABLE_HOOK_NUM)?.u32Be();
  if (number !== undefined && number !== NETDEV_INGRESS) refuse(EOPNOTSUPP);
  const devices: FakeDevice[] = [];
  hook.get(NFTA_FLOWTABLE_HOOK_DEVS)?.eachAttribute((type, span) => {
    if (type !== NFTA_DEVICE_NAME) refuse(EINVAL);
    const name = span.text();
    const index = transaction.indexOf(name) ?? refuse(ENOENT);
    if (devices.some((device) => device.name === name)) refuse(EEXIST);
    devices.push({ name, index });
  });
  return { priority: hook.get(NFTA_FLOWTABLE_HOOK_PRIORITY)?.i32Be(), devices };
}

function setDevices(
  transaction: Transaction,
  table: FakeTable,
  flowtable: FakeFlowtable,
  devices: readonly FakeDevice[],
  type: number,
): void {
  const before = flowtable.devices;
  flowtable.devices = devices;
  transaction.did(() => void (flowtable.devices = before), {
    type,
    body: flowtableBody(table, flowtable, transaction.generation),
  });
}

/** With devices: these alone. */
export function deleteFlowtable(command: Command): void {
  const { table, attributes, transaction } = command;
  const name = nameAt(attributes, NFTA_FLOWTABLE_NAME);
  const flowtable = table.flowtables.get(name) ?? refuse(ENOENT);
  transaction.ask("delete", `flowtable ${name}`);
  if (!attributes.has(NFTA_FLOWTABLE_HOOK)) return removeFlowtable(transaction, table, flowtable);
  const { devices } = hookOf(command);
  const isGone = ({ name: one }: FakeDevice): boolean => devices.some((device) => device.name === one);
  if (flowtable.devices.filter(isGone).length < devices.length) refuse(ENOENT);
  const left = flowtable.devices.filter((device) => !isGone(device));
  setDevices(transaction, table, flowtable, left, NFT_MSG_DELFLOWTABLE);
}

/** EBUSY while a rule names it. */
export function removeFlowtable(transaction: Transaction, table: FakeTable, flowtable: FakeFlowtable): void {
  if (flowtable.references > 0) refuse(EBUSY);
  const order = [...table.flowtables];
  table.flowtables.delete(flowtable.name);
  const undo = (): void => {
    table.flowtables.clear();
    for (const [name, one] of order) table.flowtables.set(name, one);
  };
  transaction.did(undo, {
    type: NFT_MSG_DELFLOWTABLE,
    body: flowtableBody(table, flowtable, transaction.generation),
  });
}

/** nf_tables_flowtable_event: a device that has gone is in no flowtable any more, and nobody is told. */
export function forgetDevices(tables: readonly FakeTable[], indexOf: (device: string) => number | undefined): void {
  for (const { flowtables } of tables)
    for (const flowtable of flowtables.values())
      if (flowtable.devices.some(({ name, index }) => indexOf(name) !== index))
        flowtable.devices = flowtable.devices.filter(({ name, index }) => indexOf(name) === index);
}
