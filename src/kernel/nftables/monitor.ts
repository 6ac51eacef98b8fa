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
  NFT_MSG_NEWGEN,
  NFTA_ANY_TABLE,
  NFTA_GEN_ID,
  NFTA_GEN_PROC_NAME,
  NFTA_GEN_PROC_PID,
} from "./wire.ts";

const NFNLGRP_NFTABLES = 7;
/** A limit, not an allocation: room for what one transaction with some 100,000 elements says. */
const RECEIVE_BYTES = 64 << 20;

/** A descriptor on which the notifications of all tables arrive. Throws KernelError. */
export function openNftablesNotifications(sys: Sys): number {
  return openNotifications(sys, NETLINK_NETFILTER, NFNLGRP_NFTABLES, RECEIVE_BYTES);
}

export interface ForeignTransaction {
  /** Of nf_tables, after the transaction. */
  readonly generation: number;
  /** `nft (process 4711)`. */
  readonly by: string;
}

export class ForeignTransactions {
  readonly #table: TableId;
  #touched = false;

  constructor(table: TableId) {
    this.#table = table;
  }

  /** The transactions that ended in this datagram, touched the table and were not made by the socket with that port id. */
  take(datagram: Uint8Array, own: number | undefined): ForeignTransaction[] {
    const found: ForeignTransaction[] = [];
    const whole = eachMessage(datagram, (message) => {
      if (message.portId === own) return;
      if (message.type !== NFT_MSG_NEWGEN) {
        this.#touched ||= this.#isOfTable(message);
        return;
      }
      if (this.#touched) found.push(endOf(message));
      this.#touched = false;
    });
    // What cannot be read may have been about the table.
    this.#touched ||= !whole;
    return found;
  }

  #isOfTable({ type, body }: Message): boolean {
    if (type >> 8 !== NFNL_SUBSYS_NFTABLES || body.u8() !== FAMILY[this.#table.family]) return false;
    return body.after(NFGENMSG)?.attributes()?.get(NFTA_ANY_TABLE)?.text() === this.#table.name;
  }
}

function endOf({ body }: Message): ForeignTransaction {
  const attributes = body.after(NFGENMSG)?.attributes();
  const name = attributes?.get(NFTA_GEN_PROC_NAME)?.text() ?? "unknown";
  return {
    generation: attributes?.get(NFTA_GEN_ID)?.u32Be() ?? 0,
    by: `${name} (process ${attributes?.get(NFTA_GEN_PROC_PID)?.u32Be() ?? "unknown"})`,
  };
}
