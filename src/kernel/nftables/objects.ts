/**
 * The nf_tables objects as plain data: what `encode` sends, what `decode` reads back, bodies included. Knows nothing of Calico.
 *
 * Bytes (keys, compare data, masks) are lower-case hex text in network order, so that equal objects are equal text.
 * Registers are numbered by their 32-bit slot, 0 to 15; a value longer than 4 bytes takes the following slots too.
 * Source: linux/netfilter/nf_tables.h.
 */
export type TableFamily = "inet" | "ip" | "ip6";

export interface TableId {
  readonly family: TableFamily;
  readonly name: string;
}

export type NftVerdict =
  | { readonly type: "accept" | "drop" | "continue" | "return" }
  | { readonly type: "jump" | "goto"; readonly chain: string };

export type Expr =
  | {
      readonly op: "payload";
      readonly base: "network" | "transport";
      readonly offset: number;
      readonly length: number;
      readonly register: number;
    }
  | {
      readonly op: "meta";
      readonly key: "nfproto" | "l4proto" | "iifname" | "oifname" | "oif" | "mark";
      readonly register: number;
    }
  /** Writes the register into the packet's metadata. */
  | { readonly op: "meta-set"; readonly key: "mark"; readonly register: number }
  | { readonly op: "ct"; readonly key: "state"; readonly register: number }
  /** Connection tracking passes over the packet; before it alone (priority below -200). */
  | { readonly op: "notrack" }
  /** To the kernel's log, at level warning. */
  | { readonly op: "log"; readonly prefix: string }
  /** The first bytes of the register against `data`; its length is the length compared. */
  | {
      readonly op: "cmp";
      readonly compare: "eq" | "neq" | "lt" | "lte" | "gt" | "gte";
      readonly register: number;
      readonly data: string;
    }
  | {
      readonly op: "range";
      readonly compare: "eq" | "neq";
      readonly register: number;
      readonly from: string;
      readonly to: string;
    }
  | {
      readonly op: "bitwise";
      readonly source: number;
      readonly destination: number;
      readonly mask: string;
      readonly xor: string;
    }
  /** True when the set has the key in `register` (or, `not`, has not). */
  | { readonly op: "lookup"; readonly set: string; readonly register: number; readonly not: boolean }
  /** Runs the verdict that the map holds for the key in `register`; no entry: the rule does not match. */
  | { readonly op: "verdict-map"; readonly map: string; readonly register: number }
  /** True when the socket filter that is pinned at the path returns something else than 0. The kernel opens it when the rule is added. */
  | { readonly op: "bpf"; readonly program: string }
  | { readonly op: "counter" }
  /** Puts the packet's flow, once established and of TCP or UDP, into the flowtable; a flow that cannot go there: the rule ends here. */
  | { readonly op: "flow-offload"; readonly flowtable: string }
  | { readonly op: "verdict"; readonly verdict: NftVerdict };

export interface NftRule {
  readonly expressions: readonly Expr[];
  /** Shown by `nft list` as the rule's comment; at most 128 bytes of UTF-8. */
  readonly comment: string | undefined;
}

/** One field of a set's key: its type as `nft` names it, which also fixes its length (ifname 16, iface_index 4, ipv4_addr 4, ipv6_addr 16, nf_proto 1, inet_proto 1, inet_service 2). */
export type KeyField =
  | "ipv4_addr"
  | "ipv6_addr"
  | "ifname"
  | "iface_index"
  | "nf_proto"
  | "inet_proto"
  | "inet_service";

export interface NftSet {
  /** One field, or several concatenated; each field of a concatenation is padded to 4 bytes in keys. */
  readonly key: readonly KeyField[];
  /** Elements are ranges. */
  readonly interval: boolean;
  /** Elements carry a verdict. */
  readonly verdictMap: boolean;
}

export interface NftElement {
  readonly key: string;
  /** Inclusive end; present exactly in interval sets. */
  readonly keyEnd: string | undefined;
  /** Present exactly in verdict maps. */
  readonly verdict: NftVerdict | undefined;
}

export interface NftBaseChain {
  readonly hook: "prerouting" | "input" | "forward" | "output" | "postrouting";
  readonly priority: number;
  readonly policy: "accept" | "drop";
}

/** `owner`: one socket alone may change it, while that is open. `persist`: it then stays. `dormant`: its chains see no packets. */
export type NftTableFlag = "dormant" | "owner" | "persist";

/** One step of a transaction, in the order in which the kernel must see them. */
export type NftCommand =
  /** Creates the table unless it is there. */
  | { readonly do: "add-table" }
  /** Creates the table, or takes one that persists without an owner: `owner` and `persist`. Never `owner` alone: such a table goes with its owner. */
  | { readonly do: "own-table" }
  | { readonly do: "delete-table" }
  | { readonly do: "add-chain"; readonly chain: string; readonly base: NftBaseChain | undefined }
  | { readonly do: "delete-chain"; readonly chain: string }
  /** Removes all rules of the chain. */
  | { readonly do: "flush-chain"; readonly chain: string }
  /** Appends. */
  | { readonly do: "add-rule"; readonly chain: string; readonly rule: NftRule }
  /** Puts it before the rule with that handle; the kernel tells the handle that it gets. */
  | { readonly do: "insert-rule"; readonly chain: string; readonly rule: NftRule; readonly place: bigint | "last" }
  | { readonly do: "delete-rule"; readonly chain: string; readonly handle: bigint }
  /** Creates the flowtable unless it is there, at the hook ingress, and adds those devices that it lacks. Every device must exist. */
  | {
      readonly do: "add-flowtable";
      readonly flowtable: string;
      readonly priority: number;
      readonly devices: readonly string[];
    }
  /** Ends its flows. No rule may name it. */
  | { readonly do: "delete-flowtable"; readonly flowtable: string }
  /** Takes these devices out; its flows go on. Every device must be in it. */
  | {
      readonly do: "delete-devices";
      readonly flowtable: string;
      readonly priority: number;
      readonly devices: readonly string[];
    }
  | { readonly do: "add-set"; readonly set: string; readonly is: NftSet }
  | { readonly do: "delete-set"; readonly set: string }
  | { readonly do: "add-elements"; readonly set: string; readonly is: NftSet; readonly elements: readonly NftElement[] }
  | {
      readonly do: "delete-elements";
      readonly set: string;
      readonly is: NftSet;
      readonly elements: readonly NftElement[];
    };

/** Who may change a table. */
export interface NftTableHold {
  /** In the order of their bits; undefined when one has no word here. */
  readonly flags: readonly NftTableFlag[] | undefined;
  /** Port id of the socket that owns it. */
  readonly owner: number | undefined;
}

/** Everything of one table, as the kernel has it. */
export interface NftTableState extends NftTableHold {
  readonly chains: ReadonlyMap<string, NftChainState>;
  readonly sets: ReadonlyMap<string, NftSetState>;
}

export interface NftChainState {
  readonly base: NftBaseChain | undefined;
  /** Present for a base chain that is not one of `NftBaseChain`: of another type, or on another hook. */
  readonly unknownBase?: true;
  readonly rules: readonly NftRuleState[];
}

export interface NftRuleState {
  /** undefined when an expression is not one of `Expr`: such a rule is never equal to a wanted one. */
  readonly rule: NftRule | undefined;
  readonly handle: bigint;
  /** Of the rule's counter expression, when it has one. */
  readonly packets: bigint;
  readonly bytes: bigint;
}

export interface NftFlowtable {
  /** undefined: not at the hook ingress, or with flags. */
  readonly priority: number | undefined;
  readonly devices: readonly string[];
}

export interface NftSetState {
  /** undefined when its key or flags are not expressible as `NftSet`. */
  readonly is: NftSet | undefined;
  readonly elements: readonly NftElement[];
}
