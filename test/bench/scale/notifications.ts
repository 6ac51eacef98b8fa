/**
 * notifications: the transactions of nf_tables as the kernel tells them: when each ended, whose it was, what was in it.
 * Source: linux net/netfilter/nf_tables_api.c, nf_tables_commit: a message for each object, and at last NFT_MSG_NEWGEN.
 */
import type { Sys } from "../../../src/host/sys.ts";
import { openNotifications } from "../../../src/kernel/netlink/notifications.ts";
import { eachMessage, type Span } from "../../../src/kernel/netlink/reader.ts";
import { NETLINK_NETFILTER } from "../../../src/kernel/netlink/socket.ts";
import {
  NFGENMSG,
  NFNL_SUBSYS_NFTABLES,
  NFT_MSG_DELRULE,
  NFT_MSG_DELSETELEM,
  NFT_MSG_NEWGEN,
  NFT_MSG_NEWRULE,
  NFT_MSG_NEWSETELEM,
  NFTA_ANY_TABLE,
  NFTA_DATA_VALUE,
  NFTA_GEN_PROC_PID,
  NFTA_SET_ELEM_KEY,
  NFTA_SET_ELEM_LIST_ELEMENTS,
} from "../../../src/kernel/nftables/wire.ts";

export interface Commit {
  /** When its last message was read, `wallMs`. */
  readonly atMs: number;
  readonly pid: number;
  /** Names of the tables that it touched. */
  readonly tables: readonly string[];
  readonly messages: number;
  readonly rulesAdded: number;
  readonly rulesDeleted: number;
  readonly elementsAdded: number;
  readonly elementsDeleted: number;
  /** Hexadecimal keys of the first elements added and deleted. */
  readonly keys: readonly string[];
}

const NFNLGRP_NFTABLES = 7;
/** A start at 100,000 elements comes faster than it is read. */
const RECEIVE_BYTES = 256 << 20;
const MOST_KEYS = 1_000;

/** Of the thread's network namespace. Throws KernelError. */
export function openCommits(sys: Sys): number {
  return openNotifications(sys, NETLINK_NETFILTER, [NFNLGRP_NFTABLES], RECEIVE_BYTES);
}

type Counts = { -readonly [K in keyof Omit<Commit, "atMs" | "pid" | "tables" | "keys">]: number };

function noCounts(): Counts {
  return { messages: 0, rulesAdded: 0, rulesDeleted: 0, elementsAdded: 0, elementsDeleted: 0 };
}

/** Gathers datagrams into transactions. */
export class CommitReader {
  #counts = noCounts();
  #keys: string[] = [];
  #tables = new Set<string>();

  /** The transactions that ended in the datagram. */
  take(datagram: Uint8Array, atMs: number): Commit[] {
    const ended: Commit[] = [];
    eachMessage(datagram, ({ type, body }) => {
      if (type >> 8 !== NFNL_SUBSYS_NFTABLES) return;
      const attributes = body.after(NFGENMSG)?.attributes();
      if (type === NFT_MSG_NEWGEN) {
        const pid = attributes?.get(NFTA_GEN_PROC_PID)?.u32Be() ?? 0;
        ended.push({ atMs, pid, tables: [...this.#tables], ...this.#counts, keys: this.#keys });
        this.#counts = noCounts();
        this.#keys = [];
        this.#tables = new Set();
        return;
      }
      this.#counts.messages++;
      this.#tables.add(attributes?.get(NFTA_ANY_TABLE)?.text() ?? "");
      if (type === NFT_MSG_NEWRULE) this.#counts.rulesAdded++;
      if (type === NFT_MSG_DELRULE) this.#counts.rulesDeleted++;
      if (type === NFT_MSG_NEWSETELEM) this.#counts.elementsAdded += this.#elements(attributes);
      if (type === NFT_MSG_DELSETELEM) this.#counts.elementsDeleted += this.#elements(attributes);
    });
    return ended;
  }

  #elements(attributes: ReadonlyMap<number, Span> | undefined): number {
    let count = 0;
    attributes?.get(NFTA_SET_ELEM_LIST_ELEMENTS)?.eachAttribute((_, element) => {
      count++;
      if (this.#keys.length >= MOST_KEYS) return;
      const key = element.attributes()?.get(NFTA_SET_ELEM_KEY)?.attributes()?.get(NFTA_DATA_VALUE);
      if (key !== undefined) this.#keys.push(key.hex());
    });
    return count;
  }
}
