/**
 * rule: a rule of iptables as `iptables-save` prints it, without `-A CHAIN`: rules are compared as text, so what is written must be
 * spelled as it is printed, but for protocols, which are numbers here (see `save.ts`). Both variants, legacy and nft, of iptables 1.8 print alike.
 */
import type { Family } from "../../net/addr.ts";
import { type Prefix, prefixLength } from "../../net/prefix.ts";
import type { Protocol } from "../../net/protocol.ts";

/** In the order in which a packet meets them. */
export const TABLE_NAMES = ["raw", "mangle", "nat", "filter"] as const;
export type TableName = (typeof TABLE_NAMES)[number];

/** What a packet must be; a rule of iptables can say each of the headers' fields once, and any number of matches. */
export interface Match {
  readonly source?: Prefix;
  readonly destination?: Prefix;
  /** `cali+` stands for all names that begin so. */
  readonly in?: Interface;
  readonly out?: Interface;
  readonly protocol?: Protocol;
  /** `-m` and what follows it. */
  readonly extensions?: readonly string[];
}

export interface Interface {
  readonly name: string;
  readonly not: boolean;
}

export interface Rule {
  readonly text: string;
  /** The chain that it jumps or goes to, if it is one. */
  readonly chain: string | undefined;
  /** IP sets that it looks up. */
  readonly sets: readonly string[];
}

export type Target =
  | { readonly do: "jump" | "goto"; readonly chain: string }
  /** `-j` with a target of the kernel: `DROP`, `MARK --set-xmark 0x1/0x1`. */
  | { readonly do: "target"; readonly text: string }
  /** The rule only counts. */
  | undefined;

/** Packets that are both; undefined: none can be, or no single rule can say so. */
export function both(a: Match, b: Match): Match | undefined {
  for (const field of ["source", "destination", "protocol"] as const)
    if (a[field] !== undefined && b[field] !== undefined && a[field] !== b[field]) return undefined;
  for (const field of ["in", "out"] as const) {
    const [left, right] = [a[field], b[field]];
    if (left !== undefined && right !== undefined && (left.name !== right.name || left.not !== right.not))
      return undefined;
  }
  return { ...a, ...b, extensions: [...(a.extensions ?? []), ...(b.extensions ?? [])] };
}

export function makeRule(match: Match, target: Target, comment?: string): Rule {
  const words: string[] = [];
  const { source, destination, protocol, extensions = [] } = match;
  // The whole family is not printed.
  if (source !== undefined && prefixLength(source) > 0) words.push(`-s ${source}`);
  if (destination !== undefined && prefixLength(destination) > 0) words.push(`-d ${destination}`);
  if (match.in !== undefined) words.push(`${match.in.not ? "! " : ""}-i ${match.in.name}`);
  if (match.out !== undefined) words.push(`${match.out.not ? "! " : ""}-o ${match.out.name}`);
  if (protocol !== undefined) words.push(`-p ${protocol}`);
  words.push(...extensions);
  if (comment !== undefined) words.push(`-m comment --comment ${quoted(comment)}`);
  if (target?.do === "target") words.push(`-j ${target.text}`);
  else if (target !== undefined) words.push(`${target.do === "jump" ? "-j" : "-g"} ${target.chain}`);
  return {
    text: words.join(" "),
    chain: target === undefined || target.do === "target" ? undefined : target.chain,
    sets: extensions.flatMap((extension) => setIn(extension) ?? []),
  };
}

function setIn(extension: string): string | undefined {
  return /^-m set (?:! )?--match-set (\S+) /.exec(extension)?.[1];
}

/** Text as `iptables-save` prints it: in quotes unless it consists of letters, digits, `-` and `_`. */
export function quoted(text: string): string {
  return /^[A-Za-z0-9_-]+$/.test(text) ? text : `"${text.replace(/["'\\]/g, "\\$&")}"`;
}

export function multiport(side: "source" | "destination", ports: readonly string[]): string {
  return `-m multiport --${side === "source" ? "s" : "d"}ports ${ports.join(",")}`;
}

/** `dimensions`: `src`, `dst,dst`. */
export function lookUp(set: string, dimensions: string, not = false): string {
  return `-m set ${not ? "! " : ""}--match-set ${set} ${dimensions}`;
}

export type ConnectionState = "INVALID" | "NEW" | "RELATED" | "ESTABLISHED" | "UNTRACKED";

/** In the order in which they are printed. */
const STATES: readonly ConnectionState[] = ["INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED"];

export function connection(states: readonly ConnectionState[]): string {
  return `-m conntrack --ctstate ${STATES.filter((state) => states.includes(state)).join(",")}`;
}

/** Any code when it is undefined. */
export function icmp(family: Family, type: number, code: number | undefined): string {
  const value = code === undefined ? String(type) : `${type}/${code}`;
  return family === 4 ? `-m icmp --icmp-type ${value}` : `-m icmp6 --icmpv6-type ${value}`;
}

export function marked(bits: number): string {
  return `-m mark --mark ${hex(bits)}/${hex(bits)}`;
}

/** Sets the bits of the mask to those of the value. */
export function setMark(value: number, mask: number): Target {
  return { do: "target", text: `MARK --set-xmark ${hex(value)}/${hex(mask)}` };
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
