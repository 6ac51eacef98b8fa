/**
 * Names of our nf_tables objects. The table is ours alone; chain prefixes are upstream's, because operators search for them:
 * `cali-fw-`/`cali-tw-` from and to a workload, `cali-pi-`/`cali-po-` policy in and out.
 */
import { sha256 } from "../../lib/sha256.ts";
import type { Direction, Hook } from "../../model/policy.ts";
import type { Family } from "../../net/addr.ts";
import type { PolicyId, SetId } from "../../program/policy.ts";
import { type PathHook, WORKLOAD_PREFIX } from "../../program/path.ts";
import { type Endpoint, type EndpointId, EVERY_INTERFACE } from "../../program/program.ts";
import type { Continuation } from "../uses.ts";
import type { Nets, NetsPart } from "./nets.ts";
import type { TableId } from "../../kernel/nftables/objects.ts";

export const TABLE: TableId = { family: "inet", name: "calico" };

/** Base chains, by the hook of the path. */
export function hookChain(hook: PathHook): string {
  return HOOK_CHAINS[hook];
}

const HOOK_CHAINS: { readonly [H in PathHook]: string } = {
  "raw-prerouting": "prerouting",
  prerouting: "pre-dnat",
  input: "input",
  forward: "forward",
  "raw-output": "raw-output",
  output: "output",
};

/** The flowtable, and the chain whose rules put established flows into it. */
export const FLOWTABLE = "established";
export const OFFLOAD_CHAIN = "cali-offload";

/** Verdict map from the interface of a workload to the chain of its stage. */
export function workloadMap(direction: Direction): string {
  return direction === "egress" ? "from-endpoint" : "to-endpoint";
}

/** (interface, source address) pairs that may send. */
export function sourcesSet(family: Family): string {
  return `sources-${family}`;
}

/** (interface, range of source addresses) pairs that may send too. */
export function sourceNetsSet(family: Family): string {
  return `${sourcesSet(family)}-nets`;
}

/** Hosts of a set, or its addresses and ports. A SetId is a prefix and a digest (program/lower-rule.ts): short, and of letters, digits and `-` only. */
export function setName(id: SetId, family: Family): string {
  return `${id}-${family}`;
}

/** The inverse of `setName` and `netsSetNames`; undefined for another name. */
export function parseSetName(name: string): { readonly id: SetId; readonly family: Family } | undefined {
  const [, id, family] = /^(.+)-([46])(?:-nets)?(?:-len\d+|-but[\d.]+)?$/.exec(name) ?? [];
  return id === undefined ? undefined : { id: id as SetId, family: family === "6" ? 6 : 4 };
}

/**
 * By kernel set, the part of a set's nets that it holds; a set that can have hosts too keeps those apart. The name of the rest says what it lacks:
 * when other lengths have sets of their own it is another set, which is complete before a rule names it.
 */
export function netsSetNames(
  id: SetId,
  type: "address" | "nets",
  nets: Nets | undefined,
): ReadonlyMap<string, NetsPart> {
  if (nets === undefined) return new Map();
  const { family, lengths, parts } = nets;
  const name = type === "nets" ? setName(id, family) : `${setName(id, family)}-nets`;
  const rest = lengths.length === 0 ? name : `${name}-but${lengths.join(".")}`;
  return new Map(parts.map((part) => [part === "rest" ? rest : `${name}-len${part}`, part]));
}

/** Where the dispatch to host endpoints for one hook and direction begins. */
export function hostDispatchChain(hook: Hook, direction: Direction): string {
  const side = direction === "ingress" ? "from" : "to";
  if (hook === "normal") return `cali-${side}-host-endpoint`;
  return hook === "forward" ? `cali-${side}-hep-forward` : `cali-${side}-host-${hook}`;
}

/** Verdict map from the device of a host endpoint to the chain of its stage. */
export function hostMap(hook: Hook, direction: Direction): string {
  return `host-${hook}-${direction}`;
}

/** Verdict map from the IP version to the chain of the endpoint of every other device. */
export function everyHostMap(hook: Hook, direction: Direction): string {
  return `${hostMap(hook, direction)}-every`;
}

const HOST_CHAINS: { readonly [H in Hook]: string } = {
  normal: "h-",
  forward: "hfw-",
  "pre-dnat": "hpd-",
  untracked: "hut-",
};

/** `cali-fw-`/`cali-tw-` from and to a workload, `cali-fh-`/`cali-th-` from and to a device of the host, and so on. */
function stagePrefix(kind: Endpoint["kind"], hook: Hook, direction: Direction): string {
  // A packet that comes from a device of the host comes to the host endpoint.
  const isFrom = (kind === "workload") === (direction === "egress");
  return `cali-${isFrom ? "f" : "t"}${kind === "workload" ? "w-" : HOST_CHAINS[hook]}`;
}

/** Chain of a stage, or of one of its tiers. No interface has a `/` in its name. */
export function stageChain(
  id: EndpointId,
  { kind }: Pick<Endpoint, "kind">,
  hook: Hook,
  direction: Direction,
  tier?: string,
): string {
  const name = id === EVERY_INTERFACE ? "any-interface-at-all" : kind === "host" ? unambiguous(id) : workloadName(id);
  const first = `${stagePrefix(kind, hook, direction)}${name}`;
  return tier === undefined ? first : `${first}/t-${unambiguous(tier, LONGEST_TIER)}`;
}

/** The chains of what is asked before the stage to count alone. */
export function stagedChain(
  id: EndpointId,
  endpoint: Pick<Endpoint, "kind">,
  hook: Hook,
  direction: Direction,
  tier?: string,
): string {
  return `${STAGED}${stageChain(id, endpoint, hook, direction, tier).slice("cali-".length)}`;
}

/** How the names begin of chains that count for staged policies. */
const STAGED = "cali-s";

/** Whether nothing that the chain does decides about a packet. */
export function isStagedChain(chain: string): boolean {
  return chain.startsWith(STAGED);
}

/** Pods' interfaces without their prefix; others are told apart from them by a `/`. */
function workloadName(id: EndpointId): string {
  return id.startsWith(WORKLOAD_PREFIX) ? unambiguous(id.slice(WORKLOAD_PREFIX.length)) : `/${unambiguous(id)}`;
}

/** What the chain of a policy is called where *allowed* means what it usually does; a letter more says another meaning. */
const CONTINUATIONS: { readonly [D in Direction]: { readonly [C in Continuation]: string } } = {
  ingress: { accept: "cali-pi-", continue: "cali-pic-", untracked: "cali-piu-", staged: "cali-si-" },
  egress: { continue: "cali-po-", accept: "cali-poa-", untracked: "cali-pou-", staged: "cali-so-" },
};

export function policyChain(id: PolicyId, direction: Direction, continuation: Continuation): string {
  return `${CONTINUATIONS[direction][continuation]}${unambiguous(id)}`;
}

/** Chain of a logging rule; no id of a policy has as many `/`. */
export function logChain(chain: string, index: number): string {
  return `${chain}/log${index}`;
}

/** The kernel allows 255 bytes (NFT_NAME_MAXLEN less the NUL), the prefix included. */
const LONGEST_LITERAL = 200;
const HEAD = 160;
const LONGEST_TIER = 100;

/**
 * A name that no other text gets, also not one that a tenant made for the purpose. nft's identifiers allow letters, digits and
 * `/ - _ .`. A text that is short and consists of these stands for itself, unless it has a `_`: that sign marks all others, which
 * keep their head for the reader and are told apart by the SHA-256 of the whole. Kubernetes names never have one.
 */
function unambiguous(text: string, longest = LONGEST_LITERAL): string {
  if (text.length <= longest && /^[A-Za-z0-9./-]+$/.test(text)) return text;
  return `${text.slice(0, Math.min(HEAD, longest)).replace(/[^A-Za-z0-9./-]/g, "-")}_${sha256(text)}`;
}
