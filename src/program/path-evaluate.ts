/** Evaluate a packet: what the whole path through the node makes of it: PATH run over a program. */
import { assertNever } from "../lib/bug.ts";
import type { Direction, Hook } from "../model/policy.ts";
import type { Verdict } from "../model/verdict.ts";
import { type Addr, familyOf } from "../net/addr.ts";
import type { FlowPacket } from "../net/flow.ts";
import { prefixContains, prefixFamily } from "../net/prefix.ts";
import { ICMPV6 } from "../net/protocol.ts";
import { evaluateStage } from "./evaluate.ts";
import {
  type Condition,
  type Connection,
  isWorkloadInterface,
  LOOPBACK,
  PATH,
  type PathHook,
  type StageStep,
  type Step,
} from "./path.ts";
import { type Endpoint, type EndpointId, EVERY_INTERFACE, type FailsafePort, type Program } from "./program.ts";

export interface PathPacket {
  /** As received or sent, before any translation of the node. */
  readonly original: FlowPacket;
  /** After translation; the same where nothing translates. */
  readonly packet: FlowPacket;
  /** The interface that it arrives from; undefined: a process of the node sends it. */
  readonly from: string | undefined;
  /** The interface that it leaves by; undefined: it is for the node itself. */
  readonly to: string | undefined;
  readonly connection: Connection;
}

export interface Fate {
  readonly action: "accept" | "drop";
  /** Name of the step that dropped it, or accepted it before a stage did; undefined: a stage did, or nothing. */
  readonly step: string | undefined;
  /** The verdicts of the stages on the way, in order. */
  readonly verdicts: readonly StageVerdict[];
  /** What the stages on the way would say with the staged policies enforced, where these make a difference: what is counted as staged. */
  readonly staged: readonly StageVerdict[];
}

export interface StageVerdict {
  readonly endpoint: EndpointId;
  readonly hook: Hook;
  readonly direction: Direction;
  readonly verdict: Verdict;
}

export function evaluatePacket(program: Program, packet: PathPacket): Fate {
  const run = new Run(program, packet);
  for (const hook of hooksOf(packet)) {
    const end = run.steps(PATH[hook], packetAt(hook, packet));
    if (end === "drop" || hook === lastHook(packet)) return run.fate(end === "drop" ? "drop" : "accept");
  }
  return run.fate("accept");
}

function hooksOf({ from, to }: PathPacket): readonly PathHook[] {
  if (from === undefined) return ["raw-output", "output"];
  return ["raw-prerouting", "prerouting", to === undefined ? "input" : "forward"];
}

function lastHook(packet: PathPacket): PathHook | undefined {
  return hooksOf(packet).at(-1);
}

function packetAt(hook: PathHook, { original, packet }: PathPacket): FlowPacket {
  return hook === "raw-prerouting" || hook === "prerouting" ? original : packet;
}

type End = "accept" | "drop" | undefined;

class Run {
  readonly #program: Program;
  readonly #path: PathPacket;
  #untracked = false;
  readonly #verdicts: StageVerdict[] = [];
  readonly #staged: StageVerdict[] = [];
  /** That ended the last hook. */
  #step: string | undefined;

  constructor(program: Program, path: PathPacket) {
    this.#program = program;
    this.#path = path;
  }

  fate(action: Fate["action"]): Fate {
    return { action, step: this.#step, verdicts: this.#verdicts, staged: this.#staged };
  }

  /** undefined: none of the steps ended the hook. */
  steps(steps: readonly Step[], packet: FlowPacket): End {
    this.#step = undefined;
    for (const step of steps) {
      const end = this.#run(step, packet);
      if (end !== undefined) return end;
    }
    return undefined;
  }

  #run(step: Step, packet: FlowPacket): End {
    switch (step.do) {
      case "accept":
      case "drop":
        if (!step.when.every((condition) => this.#holds(condition, packet))) return undefined;
        this.#step = step.name;
        return step.do;
      case "group":
        if (!step.when.every((condition) => this.#holds(condition, packet))) return undefined;
        return this.steps(step.steps, packet) ?? "accept";
      case "stage":
        return this.#stage(step, packet);
      default:
        return assertNever(step);
    }
  }

  #stage(step: StageStep, packet: FlowPacket): End {
    const found = this.#endpointOf(step);
    if (found === undefined) return undefined;
    const [endpoint, { stages, staged }] = found;
    const { hook, direction } = step;
    const stageWith = staged?.[hook]?.[direction];
    if (stageWith !== undefined) {
      const verdict = evaluateStage(this.#program, stageWith, direction, packet);
      this.#staged.push({ endpoint, hook, direction, verdict });
    }
    const stage = stages[hook]?.[direction];
    if (stage === undefined) return undefined;
    const verdict = evaluateStage(this.#program, stage, direction, packet);
    this.#verdicts.push({ endpoint, hook, direction, verdict });
    if (verdict.action === "deny") return "drop";
    if (hook === "untracked") {
      // What no rule decided is tracked as everything else is.
      if (verdict.reason.type !== "rule") return undefined;
      this.#untracked = true;
    }
    return step.allowed === "accept" ? "accept" : undefined;
  }

  /** A workload sends what arrives from its interface; a host endpoint receives it. */
  #endpointOf({ of, direction }: StageStep): readonly [EndpointId, Endpoint] | undefined {
    const name = (of === "workload") === (direction === "egress") ? this.#path.from : this.#path.to;
    if (name === undefined || this.#isWorkload(name) !== (of === "workload")) return undefined;
    for (const id of of === "workload" ? [name] : [name, EVERY_INTERFACE]) {
      const endpoint = this.#program.endpoints.get(id as EndpointId);
      if (endpoint?.kind === of) return [id as EndpointId, endpoint];
    }
    return undefined;
  }

  #holds(condition: Condition, packet: FlowPacket): boolean {
    const { from, to, connection } = this.#path;
    switch (condition.is) {
      case "from-workload":
        return from !== undefined && this.#isWorkload(from);
      case "to-workload":
        return to !== undefined && this.#isWorkload(to);
      case "foreign-source":
        if (from === undefined || !this.#isWorkload(from)) return false;
        return !isOwnSource(this.#program.endpoints.get(from as EndpointId), packet.source);
      case "loopback-destination":
        return prefixContains(LOOPBACK[familyOf(packet.destination)], packet.destination);
      case "connection":
        return condition.in.includes(this.#untracked ? "untracked" : connection);
      case "source-in":
        return (
          prefixFamily(condition.prefix) === familyOf(packet.source) && prefixContains(condition.prefix, packet.source)
        );
      case "icmp6": {
        const type = packet.icmp?.type;
        return packet.protocol === ICMPV6 && type !== undefined && type >= condition.from && type <= condition.to;
      }
      case "failsafe":
        return this.#isFailsafe(condition.direction, condition.reply, packet);
      case "allowed-untracked":
        return this.#untracked;
      case "host-denied":
        return this.#program.settings.endpointToHost === "drop";
      default:
        return assertNever(condition);
    }
  }

  #isWorkload(name: string): boolean {
    return isWorkloadInterface(name, this.#program.settings);
  }

  /** A workload's interface has no failsafe ports. */
  #isFailsafe(direction: Direction, reply: boolean, packet: FlowPacket): boolean {
    const arrives = (direction === "ingress") !== reply;
    const name = arrives ? this.#path.from : this.#path.to;
    if (name === undefined || this.#isWorkload(name)) return false;
    const port = reply ? packet.sourcePort : packet.destinationPort;
    const other = arrives ? packet.source : packet.destination;
    return this.#program.settings.failsafes[direction].some((entry) => isCall(entry, packet, port, other));
  }
}

function isOwnSource(endpoint: Endpoint | undefined, source: Addr): boolean {
  if (endpoint === undefined) return false;
  const { addresses, sources = [] } = endpoint;
  return addresses.includes(source) || sources.some((prefix) => prefixContains(prefix, source));
}

function isCall(
  entry: FailsafePort,
  packet: FlowPacket,
  port: number | undefined,
  other: FlowPacket["source"],
): boolean {
  if (packet.protocol !== entry.protocol || port !== entry.port) return false;
  return entry.net === undefined || prefixContains(entry.net, other);
}
