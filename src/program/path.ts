/**
 * Path: what happens to a packet on its way through the node, hook by hook and step by step, as data. Stages run policy; everything
 * around them is here: unknown interfaces, forged sources, loopback destinations, neighbour discovery, established flows, failsafe
 * ports.
 *
 * Every backend compiles PATH; `evaluatePacket` (path-evaluate.ts) defines its meaning.
 */
import { invariant } from "../lib/bug.ts";
import type { Direction, Hook } from "../model/policy.ts";
import type { Family } from "../net/addr.ts";
import type { Prefix } from "../net/prefix.ts";
import type { Settings } from "./program.ts";

/** Where the kernel shows packets: before connection tracking, before translation, and after routing. */
export type PathHook = "raw-prerouting" | "prerouting" | "input" | "forward" | "raw-output" | "output";

/** The hooks in the order in which a packet can meet them. */
export const PATH_HOOKS: readonly PathHook[] = [
  "raw-prerouting",
  "prerouting",
  "input",
  "forward",
  "raw-output",
  "output",
];

/** The state in connection tracking. `related`: an error about an established flow, or a flow that an established one announced. */
export type Connection = "new" | "established" | "related" | "invalid" | "untracked";

export type Condition =
  /** The packet arrives from (or leaves to) an interface with a workload's name, whether or not there is such an endpoint. */
  | { readonly is: "from-workload" | "to-workload" }
  /** It arrives from such an interface, and its source is neither an address of the workload endpoint of that interface nor in a source prefix of it. */
  | { readonly is: "foreign-source" }
  /** The destination is a loopback address. */
  | { readonly is: "loopback-destination" }
  | { readonly is: "connection"; readonly in: readonly Connection[] }
  /** The source is in the prefix, which is of one family. */
  | { readonly is: "source-in"; readonly prefix: Prefix }
  /** ICMPv6 of a type in `from`..`to`. */
  | { readonly is: "icmp6"; readonly from: number; readonly to: number }
  /** The destination port (for a reply, the source port) is a failsafe port of that direction. */
  | { readonly is: "failsafe"; readonly direction: Direction; readonly reply: boolean }
  /** An untracked stage has allowed it. */
  | { readonly is: "allowed-untracked" }
  /** The settings deny what workloads send to their node. */
  | { readonly is: "host-denied" };

export type Step =
  /** All conditions hold: the hook ends here. `name` is the counter of dropped packets. */
  | { readonly do: "accept" | "drop"; readonly when: readonly Condition[]; readonly name: string }
  /**
   * Runs the stage of the endpoint whose interface the packet comes from or goes to, if there is one. Denied: dropped. Allowed: the hook
   * ends (`accept`), or the next step follows (`continue`).
   */
  | {
      readonly do: "stage";
      readonly of: "workload" | "host";
      readonly hook: Hook;
      readonly direction: Direction;
      readonly allowed: "accept" | "continue";
    }
  /** All conditions hold: these steps follow, and then the hook ends with `accept`. */
  | {
      readonly do: "group";
      readonly when: readonly Condition[];
      readonly name: string;
      readonly steps: readonly Step[];
    };

export type StageStep = Extract<Step, { readonly do: "stage" }>;

/** Prefix of the name of every pod's host-side interface. */
export const WORKLOAD_PREFIX = "cali";

export function isWorkloadInterface(name: string, { workloadPrefixes }: Pick<Settings, "workloadPrefixes">): boolean {
  return workloadPrefixes.some((prefix) => name.startsWith(prefix));
}

const FROM_WORKLOAD: Condition = { is: "from-workload" };
const TO_WORKLOAD: Condition = { is: "to-workload" };
const INVALID: Condition = { is: "connection", in: ["invalid"] };

function drop(name: string, ...when: readonly Condition[]): Step {
  return { do: "drop", when, name };
}

function accept(name: string, ...when: readonly Condition[]): Step {
  return { do: "accept", when, name };
}

function stage(of: StageStep["of"], hook: Hook, direction: Direction, allowed: StageStep["allowed"] = "accept"): Step {
  return { do: "stage", of, hook, direction, allowed };
}

/** Before any established flow is accepted: IPv6 has no reverse path filter, and a pod must not inject into another pod's flow. */
const FOREIGN = drop("unknown interface or spoofed source", { is: "foreign-source" });
const ESTABLISHED = accept("established", { is: "connection", in: ["established", "related"] });
const UNTRACKED = accept("allowed untracked", { is: "allowed-untracked" });

/** RFC 4861 and RFC 3810: what a host must be able to send to its router from a link-local or unspecified source. */
function discovery(prefix: string): Step {
  const types = (from: number, to: number): Step => accept("neighbor discovery", { is: "icmp6", from, to });
  const steps = [types(130, 133), types(135, 136), types(143, 143), drop("link-local source")];
  const when: readonly Condition[] = [FROM_WORKLOAD, { is: "source-in", prefix: prefix as Prefix }];
  return { do: "group", name: "cali-neighbor-discovery", when, steps };
}

function failsafe(direction: Direction, reply: boolean): Step {
  return accept("failsafe", { is: "failsafe", direction, reply });
}

export const PATH: { readonly [H in PathHook]: readonly Step[] } = {
  "raw-prerouting": [
    drop("loopback destination", FROM_WORKLOAD, { is: "loopback-destination" }),
    failsafe("ingress", false),
    failsafe("egress", true),
    stage("host", "untracked", "ingress"),
  ],
  prerouting: [ESTABLISHED, UNTRACKED, failsafe("ingress", false), stage("host", "pre-dnat", "ingress")],
  input: [
    discovery("fe80::/10"),
    discovery("::/128"),
    FOREIGN,
    ESTABLISHED,
    UNTRACKED,
    accept("neighbor discovery", FROM_WORKLOAD, { is: "icmp6", from: 135, to: 136 }),
    drop("invalid connection state", FROM_WORKLOAD, INVALID),
    stage("workload", "normal", "egress", "continue"),
    drop("endpoint to host", FROM_WORKLOAD, { is: "host-denied" }),
    failsafe("ingress", false),
    stage("host", "normal", "ingress"),
  ],
  // The source's egress stage does not accept: when both are on one node, the destination's verdict is needed too.
  forward: [
    FOREIGN,
    ESTABLISHED,
    UNTRACKED,
    drop("invalid connection state", FROM_WORKLOAD, INVALID),
    stage("host", "forward", "ingress", "continue"),
    stage("workload", "normal", "egress", "continue"),
    {
      do: "group",
      name: "cali-to-workload",
      when: [TO_WORKLOAD],
      steps: [
        drop("invalid connection state", INVALID),
        stage("workload", "normal", "ingress"),
        drop("unknown interface"),
      ],
    },
    stage("host", "forward", "egress"),
  ],
  "raw-output": [failsafe("egress", false), failsafe("ingress", true), stage("host", "untracked", "egress")],
  // What the node sends to its own pods always passes, as the kubelet's probes must.
  output: [
    ESTABLISHED,
    UNTRACKED,
    accept("own node", TO_WORKLOAD),
    failsafe("egress", false),
    stage("host", "normal", "egress"),
  ],
};

/** What follows a stage that allowed the packet. */
export function allowedAt(of: StageStep["of"], hook: Hook, direction: Direction): StageStep["allowed"] {
  const find = (steps: readonly Step[]): StageStep | undefined => {
    for (const step of steps) {
      if (step.do === "stage" && step.of === of && step.hook === hook && step.direction === direction) return step;
      const found = step.do === "group" ? find(step.steps) : undefined;
      if (found !== undefined) return found;
    }
    return undefined;
  };
  const step = PATH_HOOKS.map((each) => find(PATH[each])).find((found) => found !== undefined);
  invariant(step !== undefined, `no ${hook} ${direction} stage of a ${of}`);
  return step.allowed;
}

/** The steps of a hook that can have an effect, given which stages any endpoint has; none: the hook is not needed. */
export function stepsInUse(hook: PathHook, has: (step: StageStep) => boolean): readonly Step[] {
  const steps = PATH[hook].filter((step) => isInUse(step, has));
  const hasHost = steps.some((step) => step.do === "stage" && step.of === "host");
  const used = hasHost ? steps : steps.filter((step) => !isForHost(step));
  return used.some((step) => step.do !== "accept") ? used : [];
}

/** Dispatch to workloads is always present, because pods come and go. */
function isInUse(step: Step, has: (step: StageStep) => boolean): boolean {
  if (step.do === "accept" && step.when.some(({ is }) => is === "allowed-untracked"))
    return (["ingress", "egress"] as const).some((direction) =>
      has({ do: "stage", of: "host", hook: "untracked", direction, allowed: "accept" }),
    );
  return step.do !== "stage" || step.of === "workload" || has(step);
}

function isForHost(step: Step): boolean {
  return step.do === "accept" && step.when.some(({ is }) => is === "failsafe");
}

/** Addresses that no packet from the wire may have as its destination. The kernel itself drops `::1` (RFC 4291 §2.5.3). */
export const LOOPBACK: { readonly [F in Family]: Prefix } = { 4: "127.0.0.0/8" as Prefix, 6: "::1/128" as Prefix };
