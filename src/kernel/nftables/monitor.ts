/**
 * Monitor: which transactions of others changed one table of nf_tables, out of the kernel's notifications.
 *
 * After a transaction the kernel sends a message for each object that it added or deleted, in as many datagrams as it takes, and at
 * last NFT_MSG_NEWGEN with the new generation and the process that made it. All carry the port id of the socket that committed.
 * Source: linux net/netfilter/nf_tables_api.c, nf_tables_commit.
 */
import type { Sys } from "../../host/sys.ts";
import { openNotifications } from "../netlink/notifications.ts";
import { eachMessage, type Message } from "../netlink/reader.ts";
import { NETLINK_NETFILTER } from "../netlink/socket.ts";
import type { TableId } from "./objects.ts";
import {
  FAMILY,
  NFGENMSG,
  NFNL_SUBSYS_NFTABLES,
  NFT_MSG_DELCHAIN,
  NFT_MSG_DELRULE,
  NFT_MSG_DELSET,
  NFT_MSG_DELSETELEM,
  NFT_MSG_NEWCHAIN,
  NFT_MSG_NEWGEN,
  NFT_MSG_NEWRULE,
  NFT_MSG_NEWSET,
  NFT_MSG_NEWSETELEM,
  NFT_MSG_NEWTABLE,
  NFTA_ANY_TABLE,
  NFTA_CHAIN_NAME,
  NFTA_RULE_CHAIN,
  NFTA_SET_ELEM_LIST_SET,
  NFTA_SET_NAME,
  NFTA_GEN_ID,
  NFTA_GEN_PROC_NAME,
  NFTA_GEN_PROC_PID,
} from "./wire.ts";

const NFNLGRP_NFTABLES = 7;
/** A limit, not an allocation: room for what one transaction with some 100,000 elements says. */
const RECEIVE_BYTES = 64 << 20;

/** A descriptor on which the notifications of all tables arrive. Throws KernelError. */
export function openNftablesNotifications(sys: Sys): number {
  return openNotifications(sys, NETLINK_NETFILTER, [NFNLGRP_NFTABLES], RECEIVE_BYTES);
}

export interface ForeignTransaction {
  /** Of nf_tables, after the transaction. */
  readonly generation: number;
  /** `nft (process 4711)`. */
  readonly by: string;
  /** Names of what it touched beside the table's own flags; undefined when that is not all that it touched, or not known. */
  readonly touched: { readonly chains: ReadonlySet<string>; readonly sets: ReadonlySet<string> } | undefined;
}

export class ForeignTransactions {
  readonly #table: TableId;
  #touched = false;
  /** Whether `#chains` and `#sets` name all that was touched. */
  #isNamed = true;
  #chains = new Set<string>();
  #sets = new Set<string>();

  constructor(table: TableId) {
    this.#table = table;
  }

  /** The transactions that ended in this datagram, touched the table and were not made by the socket with that port id. */
  take(datagram: Uint8Array, own: number | undefined): ForeignTransaction[] {
    const found: ForeignTransaction[] = [];
    const whole = eachMessage(datagram, (message) => {
      if (message.portId === own) return;
      if (message.type !== NFT_MSG_NEWGEN) {
        this.#note(message);
        return;
      }
      if (this.#touched) found.push({ ...endOf(message), touched: this.#names() });
      this.#touched = false;
      this.#isNamed = true;
    });
    // What cannot be read may have been about the table.
    this.#touched ||= !whole;
    this.#isNamed &&= whole;
    return found;
  }

  #names(): ForeignTransaction["touched"] {
    const names = { chains: this.#chains, sets: this.#sets };
    this.#chains = new Set();
    this.#sets = new Set();
    return this.#isNamed ? names : undefined;
  }

  #note({ type, body }: Message): void {
    if (type >> 8 !== NFNL_SUBSYS_NFTABLES || body.u8() !== FAMILY[this.#table.family]) return;
    const attributes = body.after(NFGENMSG)?.attributes();
    if (attributes?.get(NFTA_ANY_TABLE)?.text() !== this.#table.name) return;
    this.#touched = true;
    // Its flags are read whatever else is.
    if (type === NFT_MSG_NEWTABLE) return;
    const [attribute, names] = NAMED.get(type) ?? [0, undefined];
    const name = attributes.get(attribute)?.text();
    if (names === undefined || name === undefined) this.#isNamed = false;
    else (names === "chains" ? this.#chains : this.#sets).add(name);
  }
}

/** By type of message: the attribute that names the chain or set. */
const NAMED: ReadonlyMap<number, readonly [number, "chains" | "sets"]> = new Map([
  [NFT_MSG_NEWCHAIN, [NFTA_CHAIN_NAME, "chains"]],
  [NFT_MSG_DELCHAIN, [NFTA_CHAIN_NAME, "chains"]],
  [NFT_MSG_NEWRULE, [NFTA_RULE_CHAIN, "chains"]],
  [NFT_MSG_DELRULE, [NFTA_RULE_CHAIN, "chains"]],
  [NFT_MSG_NEWSET, [NFTA_SET_NAME, "sets"]],
  [NFT_MSG_DELSET, [NFTA_SET_NAME, "sets"]],
  [NFT_MSG_NEWSETELEM, [NFTA_SET_ELEM_LIST_SET, "sets"]],
  [NFT_MSG_DELSETELEM, [NFTA_SET_ELEM_LIST_SET, "sets"]],
] as const);

function endOf({ body }: Message): Omit<ForeignTransaction, "touched"> {
  const attributes = body.after(NFGENMSG)?.attributes();
  const name = attributes?.get(NFTA_GEN_PROC_NAME)?.text() ?? "unknown";
  return {
    generation: attributes?.get(NFTA_GEN_ID)?.u32Be() ?? 0,
    by: `${name} (process ${attributes?.get(NFTA_GEN_PROC_PID)?.u32Be() ?? "unknown"})`,
  };
}
