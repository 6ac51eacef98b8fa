/**
 * Names of our chains and IP sets. They are upstream's, because operators search for them: `cali-FORWARD` and the like begin what is ours,
 * `cali-fw-`/`cali-tw-` are from and to a workload, `cali-pi-`/`cali-po-` a policy in and out, `cali40…`/`cali60…` sets.
 */
import { sha256 } from "../../lib/sha256.ts";
import type { Direction, Hook } from "../../model/policy.ts";
import type { Family } from "../../net/addr.ts";
import { type PathHook, WORKLOAD_PREFIX } from "../../program/path.ts";
import type { PolicyId, SetId } from "../../program/policy.ts";
import { type Endpoint, type EndpointId, EVERY_INTERFACE } from "../../program/program.ts";
import type { TableName } from "../../kernel/iptables/rule.ts";
import type { Continuation } from "../uses.ts";

/** XT_EXTENSION_MAXNAMELEN of linux/netfilter/x_tables.h, less the NUL. */
const MOST_CHAIN = 28;

/** Where a hook of the path is in iptables, and our chain there. */
export const HOOK_CHAINS: {
  readonly [H in PathHook]: { readonly table: TableName; readonly builtIn: string; readonly chain: string };
} = {
  "raw-prerouting": { table: "raw", builtIn: "PREROUTING", chain: "cali-PREROUTING" },
  prerouting: { table: "mangle", builtIn: "PREROUTING", chain: "cali-PREROUTING" },
  input: { table: "filter", builtIn: "INPUT", chain: "cali-INPUT" },
  forward: { table: "filter", builtIn: "FORWARD", chain: "cali-FORWARD" },
  "raw-output": { table: "raw", builtIn: "OUTPUT", chain: "cali-OUTPUT" },
  output: { table: "filter", builtIn: "OUTPUT", chain: "cali-OUTPUT" },
};

/** The table in which a stage of that hook runs. */
export function tableOf(hook: Hook): TableName {
  return hook === "untracked" ? "raw" : hook === "pre-dnat" ? "mangle" : "filter";
}

/** Clears our marks and returns to whoever jumped to the chain that went there. */
export const CLEAR_CHAIN = "cali-clear-marks";
/** What a workload sends from an address that is not its own, where some workload may. */
export const FOREIGN_CHAIN = "cali-foreign-source";

/** The root of the dispatch by the name of a workload's interface, or the part of it for names that begin so. */
export function workloadDispatchChain(direction: Direction, start = ""): string {
  const root = `cali-${direction === "egress" ? "from" : "to"}-wl-dispatch`;
  if (start === "") return root;
  // Pods' interfaces without their prefix; others are told apart from them by a `/`.
  const isOfPod = start.startsWith(WORKLOAD_PREFIX) && start.length > WORKLOAD_PREFIX.length;
  return named(`${root}-`, isOfPod ? start.slice(WORKLOAD_PREFIX.length) : `/${start}`);
}

/** Accepts calls to failsafe ports of that direction, or answers from them, at the host's own devices. */
export function failsafeChain(direction: Direction, isReply: boolean): string {
  return `cali-failsafe-${direction === "ingress" ? "in" : "out"}${isReply ? "-reply" : ""}`;
}

/** Where the dispatch to host endpoints for one hook and direction begins. */
export function hostDispatchChain(hook: Hook, direction: Direction): string {
  const side = direction === "ingress" ? "from" : "to";
  return hook === "forward" ? `cali-${side}-hep-forward` : `cali-${side}-host-endpoint`;
}

const HOST_LETTERS: { readonly [H in Hook]: string } = {
  untracked: "u-",
  "pre-dnat": "d-",
  forward: "hfw-",
  normal: "h-",
};

/** Chain of part i of a stage: a tier, or the profiles. */
export function stageChain(
  id: EndpointId,
  { kind }: Pick<Endpoint, "kind">,
  hook: Hook,
  direction: Direction,
  part = 0,
): string {
  return named(`cali-${stageLetters(kind, hook, direction)}`, partName(id, part));
}

/** The same of what is asked before the stage to count alone. */
export function stagedChain(
  id: EndpointId,
  { kind }: Pick<Endpoint, "kind">,
  hook: Hook,
  direction: Direction,
  part = 0,
): string {
  return named(`${STAGED}${stageLetters(kind, hook, direction)}`, partName(id, part));
}

/** How the names begin of chains that count for staged policies. */
const STAGED = "cali-s";

/** Whether nothing that the chain does decides about a packet. */
export function isStagedChain(chain: string): boolean {
  return chain.startsWith(STAGED);
}

function stageLetters(kind: Endpoint["kind"], hook: Hook, direction: Direction): string {
  // A packet that comes from a device of the host comes to the host endpoint.
  const isFrom = (kind === "workload") === (direction === "egress");
  return `${isFrom ? "f" : "t"}${kind === "workload" ? "w-" : HOST_LETTERS[hook]}`;
}

function partName(id: EndpointId, part: number): string {
  const name = id === EVERY_INTERFACE ? "any-interface-at-all" : id;
  return part === 0 ? name : `${name}/${part}`;
}

/** What the chain of a policy is called where *allowed* means what it usually does; a letter more says another meaning. */
const POLICY_PREFIXES: { readonly [D in Direction]: { readonly [C in Continuation]: string } } = {
  ingress: { accept: "cali-pi-", continue: "cali-pic-", untracked: "cali-piu-", staged: "cali-si-" },
  egress: { continue: "cali-po-", accept: "cali-poa-", untracked: "cali-pou-", staged: "cali-so-" },
};

export function policyChain(id: PolicyId, direction: Direction, continuation: Continuation): string {
  return named(POLICY_PREFIXES[direction][continuation], id);
}

/** Chain of one rule of a policy that takes several rules of iptables, and of its action where that is done once. */
export function ruleChain(chain: string, index: number, isAction: boolean): string {
  return named(isAction ? "cali-a-" : "cali-r-", `${chain}/${index}`);
}

/** IPSET_MAXNAMELEN of linux/netfilter/ipset/ip_set.h is 32 with the NUL: the 128 bits of the set's id are spelled in base 64. */
export function setName(id: SetId, family: Family): string {
  const dash = id.indexOf("-");
  return `${setPrefix(family)}${id.slice(0, dash)}:${base64(id.slice(dash + 1))}`;
}

/** (source address, interface) pairs that may send. */
export function sourcesSet(family: Family): string {
  return `${setPrefix(family)}sources`;
}

function setPrefix(family: Family): string {
  return family === 4 ? "cali40" : "cali60";
}

/** Whether a set is one of ours, or of an earlier process of ours. */
export function isOurSet(name: string): boolean {
  return name.startsWith("cali40") || name.startsWith("cali60");
}

export function isOurChain(name: string): boolean {
  return name.startsWith("cali-");
}

/** A text that fits stands for itself, unless it has a `_`: that sign marks all others, which are told apart by their SHA-256. */
function named(prefix: string, text: string): string {
  const most = MOST_CHAIN - prefix.length;
  if (text.length <= most && /^[A-Za-z0-9./-]+$/.test(text)) return `${prefix}${text}`;
  return `${prefix}_${base64(sha256(text)).slice(0, most - 1)}`;
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/** Of hexadecimal digits, with the alphabet that is safe in names (RFC 4648 §5), without padding. */
function base64(hex: string): string {
  let text = "";
  for (let i = 0; i < hex.length; i += 3) {
    const value = Number.parseInt(hex.slice(i, i + 3).padEnd(3, "0"), 16);
    text += DIGITS.charAt(value >> 6) + DIGITS.charAt(value & 63);
  }
  return text.slice(0, Math.ceil((hex.length * 4) / 6));
}
