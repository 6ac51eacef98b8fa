/** base-chains: the base chains of all tables of nf_tables, others' too, and whether a table's rules accept certain interfaces. Reads only. */
import type { Sys } from "../../host/sys.ts";
import type { Message } from "../netlink/reader.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../netlink/socket.ts";
import { decodeChain, decodeRule } from "./decode.ts";
import { encodeFamily, encodeTableQuery } from "./encode.ts";
import type { Expr, NftBaseChain, TableFamily, TableId } from "./objects.ts";
import {
  FAMILY,
  NFGENMSG,
  NFT_MSG_GETCHAIN,
  NFT_MSG_GETRULE,
  NFTA_ANY_TABLE,
  NFTA_EXPR_NAME,
  NFTA_RULE_CHAIN,
  NFTA_RULE_EXPRESSIONS,
} from "./wire.ts";

export interface FoundBaseChain {
  readonly table: TableId;
  readonly chain: string;
  readonly base: NftBaseChain;
}

/** A rule, as far as it is known here. */
export interface FoundRule {
  readonly chain: string;
  /** Names of its expressions: `meta`, `cmp`, `reject`. */
  readonly names: readonly string[];
  /** undefined: it has some for which we have no word. */
  readonly expressions: readonly Expr[] | undefined;
}

const AF_UNSPEC = 0;

export class NftablesObserver {
  readonly #socket: NetlinkSocket;

  /** Opens in the thread's network namespace; throws KernelError. */
  constructor(sys: Sys) {
    this.#socket = new NetlinkSocket(sys, NETLINK_NETFILTER);
  }

  /** Of type filter, in tables of the families inet, ip and ip6. Throws KernelError. */
  baseChains(): readonly FoundBaseChain[] {
    return this.#socket.dump(
      "read chains",
      "of all tables",
      NFT_MSG_GETCHAIN,
      (w) => encodeFamily(w, AF_UNSPEC),
      (message) => {
        const table = tableOf(message);
        const found = table && decodeChain(message, table);
        return table === undefined || found?.base === undefined
          ? undefined
          : { table, chain: found.chain, base: found.base };
      },
    );
  }

  /** All rules of the table, those of a chain in order. Throws KernelError. */
  rulesOf(table: TableId): readonly FoundRule[] {
    return this.#socket.dump(
      "read rules of table",
      `${table.family} ${table.name}`,
      NFT_MSG_GETRULE,
      (w) => encodeTableQuery(w, table),
      (message) => {
        const attributes = message.body.after(NFGENMSG)?.attributes();
        const chain = attributes?.get(NFTA_RULE_CHAIN)?.text();
        if (attributes === undefined || chain === undefined) return undefined;
        const names: string[] = [];
        attributes.get(NFTA_RULE_EXPRESSIONS)?.eachAttribute((_, span) => {
          names.push(span.attributes()?.get(NFTA_EXPR_NAME)?.text() ?? "");
        });
        return { chain, names, expressions: decodeRule(message, table)?.state.rule?.expressions };
      },
    );
  }

  close(): void {
    this.#socket.close();
  }
}

const FAMILIES: readonly TableFamily[] = ["inet", "ip", "ip6"];

function tableOf(message: Message): TableId | undefined {
  const number = message.body.u8();
  const family = FAMILIES.find((each) => FAMILY[each] === number);
  const name = message.body.after(NFGENMSG)?.attributes()?.get(NFTA_ANY_TABLE)?.text();
  return family === undefined || name === undefined ? undefined : { family, name };
}
