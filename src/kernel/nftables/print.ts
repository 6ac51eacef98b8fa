/**
 * print: tables, commands and rules as text close to `nft`'s, for people and for golden files. Deterministic; never read back.
 *
 * What `nft` has words for is written in them; the rest shows the register or the raw bytes (`@nh,96,32`, `0x0a`).
 */
import { assertNever } from "../../lib/bug.ts";
import type { Expr, NftBaseChain, NftCommand, NftElement, NftRule, NftSet, NftTableState, TableId } from "./objects.ts";
import { printElement, printSetType, printValue, printVerdict, type ValueKind } from "./print-values.ts";

interface Load {
  readonly name: string;
  readonly kind: ValueKind;
  /** In 32-bit slots. */
  readonly slots: number;
  /** Hex of the mask that `bitwise` applied, and of what it flipped then. */
  readonly mask: string | undefined;
  readonly xor?: string;
}

const SLOT_BYTES = 4;
const IFNAME_SLOTS = 4;
const COMPARISON = { eq: "", neq: "!= ", lt: "< ", lte: "<= ", gt: "> ", gte: ">= " } as const;

/** `iifname "cali1" ip saddr @s counter accept comment "…"`. */
export function printRule(rule: NftRule): string {
  const printer = new RulePrinter();
  for (const expr of rule.expressions) printer.step(expr);
  const comment = rule.comment === undefined ? [] : [`comment ${JSON.stringify(rule.comment)}`];
  return [...printer.words, ...comment].join(" ");
}

/** Follows what each register holds. */
class RulePrinter {
  readonly words: string[] = [];
  readonly #registers = new Map<number, Load>();
  /** Slots loaded and not yet looked at: a lookup of several fields takes those that follow each other. */
  #fresh = new Set<number>();
  /** `tcp`, once a comparison has fixed it. */
  #protocol: string | undefined;
  /** Index of a word that the next one may make superfluous. */
  #implied: { readonly at: number; readonly by: "network" | "transport" } | undefined;

  step(expr: Expr): void {
    switch (expr.op) {
      case "payload":
        return this.#load(expr.register, payloadOf(expr));
      case "meta":
        return this.#load(expr.register, metaOf(expr.key));
      case "ct":
        return this.#load(expr.register, { name: "ct state", kind: "ct_state", slots: 1, mask: undefined });
      case "bitwise": {
        const { name, kind, slots } = this.#registers.get(expr.source) ?? unknown(expr.source);
        return this.#load(expr.destination, { name, kind, slots, mask: expr.mask, xor: expr.xor });
      }
      case "meta-set":
        return this.#say(`meta mark set ${stored(this.#look(expr.register))}`);
      case "notrack":
        return this.#say("notrack");
      case "log":
        return this.#say(`log prefix ${JSON.stringify(expr.prefix)}`);
      case "cmp":
        return this.#compare(expr);
      case "range": {
        const load = this.#look(expr.register);
        const not = expr.compare === "neq" ? "!= " : "";
        return this.#say(`${load.name} ${not}${printValue(load.kind, expr.from)}-${printValue(load.kind, expr.to)}`);
      }
      case "lookup":
        return this.#say(`${this.#lookAll(expr.register)} ${expr.not ? "!= " : ""}@${expr.set}`);
      case "verdict-map":
        return this.#say(`${this.#lookAll(expr.register)} vmap @${expr.map}`);
      case "bpf":
        return this.#say(`xt match "bpf" program ${JSON.stringify(expr.program)}`);
      case "counter":
        return this.#say("counter");
      case "flow-offload":
        return this.#say(`flow add @${expr.flowtable}`);
      case "verdict":
        return this.#say(printVerdict(expr.verdict));
      default:
        assertNever(expr);
    }
  }

  #load(slot: number, load: Load): void {
    this.#registers.set(slot, load);
    this.#fresh.add(slot);
  }

  #look(slot: number): Load {
    this.#fresh.delete(slot);
    const load = this.#registers.get(slot) ?? unknown(slot);
    const ported = load.name.startsWith("th ") && this.#protocol !== undefined;
    if (ported) this.#drop("transport");
    if (load.name.startsWith("ip ") || load.name.startsWith("ip6 ")) this.#drop("network");
    return ported ? { ...load, name: `${this.#protocol}${load.name.slice(2)}` } : load;
  }

  /** Takes back the last word when what comes now implies it. */
  #drop(by: "network" | "transport"): void {
    if (this.#implied?.by !== by) return;
    this.words.splice(this.#implied.at, 1);
    this.#implied = undefined;
  }

  /** Names of the fields of a key that begins at the slot. */
  #lookAll(slot: number): string {
    const names: string[] = [];
    let next = slot;
    do {
      const load = this.#look(next);
      names.push(masked(load));
      next += load.slots;
    } while (this.#fresh.has(next));
    return names.join(" . ");
  }

  #compare(expr: Extract<Expr, { op: "cmp" }>): void {
    const load = this.#look(expr.register);
    const value = printValue(load.kind, expr.data);
    if (load.mask !== undefined) {
      const zero = /^0*$/.test(expr.data);
      // nft's short form for flags.
      if (load.kind === "ct_state" && zero && expr.compare === "neq")
        return this.#say(`${load.name} ${printValue(load.kind, load.mask)}`);
      if (load.kind === "ct_state" && zero && expr.compare === "eq")
        return this.#say(`${load.name} ! ${printValue(load.kind, load.mask)}`);
      return this.#say(`${masked(load)} ${expr.compare === "eq" ? "== " : COMPARISON[expr.compare]}${value}`);
    }
    this.#say(`${load.name} ${COMPARISON[expr.compare]}${value}`);
    if (expr.compare !== "eq") return;
    if (load.kind === "nf_proto") this.#implied = { at: this.words.length - 1, by: "network" };
    if (load.name !== "meta l4proto") return;
    this.#protocol = value;
    this.#implied = { at: this.words.length - 1, by: "transport" };
  }

  #say(word: string): void {
    this.words.push(word);
    this.#implied = undefined;
  }
}

function masked(load: Load): string {
  if (load.mask === undefined) return load.name;
  const flipped = isZero(load.xor) ? "" : ` ^ 0x${load.xor}`;
  return `${load.name}${flipped} & ${printValue(load.kind === "ct_state" ? "mark" : load.kind, load.mask)}`;
}

function isZero(hex: string | undefined): boolean {
  return hex === undefined || /^0*$/.test(hex);
}

/** A value as it is written back: the bits of `xor` are set, and those that the mask lacks cleared. */
function stored(load: Load): string {
  const { xor } = load;
  if (xor === undefined || isZero(xor)) return masked(load);
  return `${load.name} | ${printValue(load.kind, xor)}`;
}

function unknown(slot: number): Load {
  return { name: `reg ${slot}`, kind: "raw", slots: 1, mask: undefined };
}

function metaOf(key: Extract<Expr, { op: "meta" }>["key"]): Load {
  switch (key) {
    case "iifname":
    case "oifname":
      return { name: key, kind: "ifname", slots: IFNAME_SLOTS, mask: undefined };
    case "oif":
      return { name: key, kind: "iface_index", slots: 1, mask: undefined };
    case "nfproto":
      return { name: "meta nfproto", kind: "nf_proto", slots: 1, mask: undefined };
    case "l4proto":
      return { name: "meta l4proto", kind: "inet_proto", slots: 1, mask: undefined };
    case "mark":
      return { name: "meta mark", kind: "mark", slots: 1, mask: undefined };
    default:
      return assertNever(key);
  }
}

/** By base, offset and length. */
const PAYLOADS: Readonly<Record<string, readonly [string, ValueKind]>> = {
  "network 9 1": ["ip protocol", "inet_proto"],
  "network 12 4": ["ip saddr", "ipv4_addr"],
  "network 16 4": ["ip daddr", "ipv4_addr"],
  "network 6 1": ["ip6 nexthdr", "inet_proto"],
  "network 8 16": ["ip6 saddr", "ipv6_addr"],
  "network 24 16": ["ip6 daddr", "ipv6_addr"],
  "transport 0 2": ["th sport", "inet_service"],
  "transport 2 2": ["th dport", "inet_service"],
};

function payloadOf({ base, offset, length }: Extract<Expr, { op: "payload" }>): Load {
  const bits = `@${base === "network" ? "nh" : "th"},${offset * 8},${length * 8}`;
  const [name, kind] = PAYLOADS[`${base} ${offset} ${length}`] ?? [bits, "raw"];
  return { name, kind, slots: Math.ceil(length / SLOT_BYTES), mask: undefined };
}

/** `type filter hook forward priority 0; policy drop;` */
export function printBase(base: NftBaseChain): string {
  return `type filter hook ${base.hook} priority ${base.priority}; policy ${base.policy};`;
}

function printElements(set: NftSet, elements: readonly NftElement[]): string[] {
  const sorted = [...elements].sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  return sorted.map((element) => printElement(set, element));
}

/** The whole table in nft's layout, elements sorted. Objects that cannot be expressed say so. */
export function printTable(table: TableId, state: NftTableState): string {
  const lines: string[] = [];
  if (state.flags === undefined) lines.push("  # flags that cannot be expressed");
  else if (state.flags.length > 0) lines.push(`  flags ${state.flags.join(",")}`);
  for (const [name, { is, elements }] of [...state.sets].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (is === undefined) {
      lines.push(`  set ${name} {`, "    # cannot be expressed", "  }");
      continue;
    }
    lines.push(`  ${is.verdictMap ? "map" : "set"} ${name} {`, `    ${printSetType(is)}`);
    if (elements.length > 0)
      lines.push("    elements = {", ...printElements(is, elements).map((text) => `      ${text},`), "    }");
    lines.push("  }");
  }
  for (const [name, { base, rules }] of state.chains) {
    lines.push(`  chain ${name} {`);
    if (base !== undefined) lines.push(`    ${printBase(base)}`);
    for (const { rule } of rules)
      lines.push(`    ${rule === undefined ? "# a rule that cannot be expressed" : printRule(rule)}`);
    lines.push("  }");
  }
  return `table ${table.family} ${table.name} {\n${lines.map((line) => `${line}\n`).join("")}}\n`;
}

/** One line a command, as one would type it to `nft -f`. */
export function printCommands(table: TableId, commands: readonly NftCommand[]): string {
  return commands.map((command) => `${printCommand(`${table.family} ${table.name}`, command)}\n`).join("");
}

function printCommand(table: string, command: NftCommand): string {
  switch (command.do) {
    case "add-table":
      return `add table ${table}`;
    case "own-table":
      return `add table ${table} { flags owner,persist; }`;
    case "delete-table":
      return `delete table ${table}`;
    case "add-chain":
      return `add chain ${table} ${command.chain}${command.base === undefined ? "" : ` { ${printBase(command.base)} }`}`;
    case "delete-chain":
      return `delete chain ${table} ${command.chain}`;
    case "flush-chain":
      return `flush chain ${table} ${command.chain}`;
    case "add-rule":
      return `add rule ${table} ${command.chain} ${printRule(command.rule)}`;
    case "insert-rule":
      return command.place === "last"
        ? `add rule ${table} ${command.chain} ${printRule(command.rule)}`
        : `insert rule ${table} ${command.chain} handle ${command.place} ${printRule(command.rule)}`;
    case "delete-rule":
      return `delete rule ${table} ${command.chain} handle ${command.handle}`;
    case "add-flowtable":
      return `add flowtable ${table} ${command.flowtable} { hook ingress priority ${command.priority}; devices = { ${command.devices.join(", ")} }; }`;
    case "delete-flowtable":
      return `delete flowtable ${table} ${command.flowtable}`;
    case "delete-devices":
      return `delete flowtable ${table} ${command.flowtable} { hook ingress priority ${command.priority}; devices = { ${command.devices.join(", ")} }; }`;
    case "add-set":
      return `add ${command.is.verdictMap ? "map" : "set"} ${table} ${command.set} { ${printSetType(command.is)} }`;
    case "delete-set":
      return `delete set ${table} ${command.set}`;
    case "add-elements":
      return `add element ${table} ${command.set} { ${printElements(command.is, command.elements).join(", ")} }`;
    case "delete-elements":
      return `delete element ${table} ${command.set} { ${printElements(command.is, command.elements).join(", ")} }`;
    default:
      return assertNever(command);
  }
}
