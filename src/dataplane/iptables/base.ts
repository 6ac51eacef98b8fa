/**
 * base: the packet's path (program/path.ts) as our first chains, one for each hook that is in use: the checks around policy, and the dispatch
 * to the stages of endpoints.
 */
import {
  both,
  connection,
  type ConnectionState,
  icmp,
  lookUp,
  makeRule,
  type Match,
  multiport,
  type Rule,
  TABLE_NAMES,
  type TableName,
} from "../../kernel/iptables/rule.ts";
import { assertNever, BugError } from "../../lib/bug.ts";
import type { Family } from "../../net/addr.ts";
import { type Prefix, prefixFamily } from "../../net/prefix.ts";
import { ICMPV6 } from "../../net/protocol.ts";
import { type Condition, LOOPBACK, PATH_HOOKS, type StageStep, type Step, stepsInUse } from "../../program/path.ts";
import { type EndpointId, EVERY_INTERFACE, type FailsafePort, type Settings } from "../../program/program.ts";
import type { HostStage } from "../nftables/base.ts";
import { CLEAR, hasMark } from "./marks.ts";
import {
  CLEAR_CHAIN,
  failsafeChain,
  FOREIGN_CHAIN,
  HOOK_CHAINS,
  hostDispatchChain,
  sourcesSet,
  stageChain,
  tableOf,
  workloadDispatchChain,
} from "./names.ts";
import { ACCEPT, DROP, RETURN } from "./policy-chains.ts";
import { chainId, type IptRow, jumpId, setId } from "./rows.ts";

const ANY: Match = {};

/** A hook and direction for which some host endpoint has a stage, and the devices that have one. */
export interface HostDispatch extends HostStage {
  readonly devices: readonly EndpointId[];
}

/** What endpoints have of which the base depends. */
export interface BaseUse {
  readonly hostStages: readonly HostDispatch[];
  /** The source prefixes of workloads. */
  readonly sources: readonly (readonly [EndpointId, readonly Prefix[]])[];
}

/** The rows of one family that follow from the path, the settings and the stages that host endpoints have. Dispatch to workloads is apart. */
export function baseRows(
  family: Family,
  settings: Settings,
  { hostStages, sources: prefixes }: BaseUse,
): Map<string, IptRow> {
  const rows = new Map<string, IptRow>();
  const sources = sourcesSet(family);
  rows.set(setId(sources), { type: "set", set: sources, is: { type: "hash:net,iface", family } });
  const addChain = (table: TableName, chain: string, rules: readonly Rule[]): void =>
    void rows.set(chainId(family, table, chain), { type: "chain", family, table, chain, rules });
  const tables = new Set<TableName>(["filter"]);
  for (const stage of hostStages) {
    tables.add(tableOf(stage.hook));
    addChain(tableOf(stage.hook), hostDispatchChain(stage.hook, stage.direction), dispatchToHost(stage, settings));
  }
  for (const table of TABLE_NAMES) if (tables.has(table)) addChain(table, CLEAR_CHAIN, [makeRule(ANY, CLEAR)]);
  const has = ({ hook, direction }: StageStep): boolean =>
    hostStages.some((stage) => stage.hook === hook && stage.direction === direction);
  for (const hook of PATH_HOOKS) {
    const steps = stepsInUse(hook, has);
    if (steps.length === 0) continue;
    const { table, builtIn, chain } = HOOK_CHAINS[hook];
    const compiler = new HookCompiler(family, settings, prefixes, (name, rules) => addChain(table, name, rules));
    const rules = compiler.rules(steps);
    // Nothing of it concerns the family.
    if (rules.length === 0) continue;
    // Others' rules come after ours, and often drop in the end: what a workload's policy lets go is not theirs to judge.
    const allowed = hook === "forward" ? isWorkload("in", settings).map((match) => makeRule(match, ACCEPT)) : [];
    addChain(table, chain, [...rules, ...allowed]);
    const rule = makeRule(ANY, { do: "jump", chain });
    rows.set(jumpId(family, table, builtIn), { type: "jump", family, table, builtIn, rules: [rule], isFirst: true });
  }
  return rows;
}

/** The device's own endpoint, else the one of every device. What belongs to a workload is none of its business. */
function dispatchToHost({ hook, direction, exempt, devices }: HostDispatch, settings: Settings): Rule[] {
  const kind = { kind: "host" } as const;
  const goTo = (id: EndpointId, match: Match): Rule =>
    makeRule(match, { do: "goto", chain: stageChain(id, kind, hook, direction) });
  const is = (name: string): Match =>
    direction === "ingress" ? { in: { name, not: false } } : { out: { name, not: false } };
  return [
    ...isWorkload(direction === "ingress" ? "in" : "out", settings).map((match) => makeRule(match, RETURN)),
    ...devices.filter((id) => id !== EVERY_INTERFACE).map((id) => goTo(id, is(id))),
    ...exempt.map((id) => makeRule(is(id), RETURN)),
    ...(devices.includes(EVERY_INTERFACE) ? [goTo(EVERY_INTERFACE, ANY)] : []),
  ];
}

/** For each way in which a workload's interface may be called. */
function isWorkload(side: "in" | "out", { workloadPrefixes }: Settings): Match[] {
  return workloadPrefixes.map((prefix) => ({ [side]: { name: `${prefix}+`, not: false } }));
}

class HookCompiler {
  readonly #family: Family;
  readonly #settings: Settings;
  readonly #sources: BaseUse["sources"];
  readonly #addChain: (chain: string, rules: readonly Rule[]) => void;

  /** `addChain` is told the chains of groups. */
  constructor(
    family: Family,
    settings: Settings,
    sources: BaseUse["sources"],
    addChain: (chain: string, rules: readonly Rule[]) => void,
  ) {
    this.#family = family;
    this.#settings = settings;
    this.#sources = sources;
    this.#addChain = addChain;
  }

  rules(steps: readonly Step[]): Rule[] {
    return steps.flatMap((step) => this.#step(step));
  }

  #step(step: Step): Rule[] {
    switch (step.do) {
      case "accept": {
        const [only] = step.when;
        if (only?.is === "failsafe") return [this.#acceptFailsafe(only)];
        return this.#when(step.when).map((match) => makeRule(match, ACCEPT));
      }
      case "drop":
        if (this.#sources.length > 0 && step.when.some(({ is }) => is === "foreign-source"))
          return this.#dropForeign(step);
        return this.#when(step.when).map((match) => makeRule(match, DROP, step.name));
      case "stage":
        return step.of === "workload" ? this.#dispatchToWorkload(step) : [dispatchToHosts(step)];
      case "group": {
        const matches = this.#when(step.when);
        if (matches.length > 0) this.#group(step.name, step.steps);
        return matches.map((match) => makeRule(match, { do: "goto", chain: step.name }));
      }
      default:
        return assertNever(step);
    }
  }

  /**
   * A set of networks and interfaces takes the same network for 64 interfaces at most, so that prefixes are rules. What comes there has a source that is no
   * workload's own.
   */
  #dropForeign({ when, name }: { readonly when: readonly Condition[]; readonly name: string }): Rule[] {
    const back = this.#sources.flatMap(([id, prefixes]) =>
      prefixes
        .filter((prefix) => prefixFamily(prefix) === this.#family)
        .map((source) => makeRule({ in: { name: id, not: false }, source }, RETURN)),
    );
    this.#addChain(FOREIGN_CHAIN, [...back, makeRule(ANY, DROP, name)]);
    return this.#when(when).map((match) => makeRule(match, { do: "jump", chain: FOREIGN_CHAIN }));
  }

  /** Accepts at its end, unless its last step leaves nothing over. */
  #group(chain: string, steps: readonly Step[]): void {
    const last = steps.at(-1);
    const isOpen = last === undefined || last.do !== "drop" || last.when.length > 0;
    const rules = this.rules(steps);
    this.#addChain(chain, isOpen ? [...rules, makeRule(ANY, ACCEPT)] : rules);
  }

  /** All conditions in one rule; several where an OR cannot be said in one. */
  #when(conditions: readonly Condition[]): readonly Match[] {
    let matches: readonly Match[] = [ANY];
    for (const condition of conditions) {
      const own = this.#condition(condition);
      matches = matches.flatMap((left) => own.flatMap((right) => both(left, right) ?? []));
    }
    return matches;
  }

  #condition(condition: Condition): readonly Match[] {
    const family = this.#family;
    switch (condition.is) {
      case "from-workload":
        return isWorkload("in", this.#settings);
      case "to-workload":
        return isWorkload("out", this.#settings);
      case "foreign-source": {
        const extensions = [lookUp(sourcesSet(family), "src,src", true)];
        return isWorkload("in", this.#settings).map((match) => ({ ...match, extensions }));
      }
      case "loopback-destination":
        // The kernel drops what is for ::1 by itself.
        return family === 4 ? [{ destination: LOOPBACK[4] }] : [];
      case "connection":
        return [{ extensions: [connection(condition.in.map((state) => state.toUpperCase() as ConnectionState))] }];
      case "source-in":
        return prefixFamily(condition.prefix) === family ? [{ source: condition.prefix }] : [];
      case "icmp6":
        return family === 6 ? icmpTypes(condition.from, condition.to) : [];
      case "failsafe":
        throw new BugError("failsafe ports are the only condition of their step");
      case "host-denied":
        return this.#settings.endpointToHost === "drop" ? [ANY] : [];
      case "allowed-untracked":
        return [{ extensions: [connection(["UNTRACKED"]), ...(hasMark("allowed").extensions ?? [])] }];
      default:
        return assertNever(condition);
    }
  }

  /** At the host's own devices alone. */
  #acceptFailsafe({ direction, reply }: Extract<Condition, { is: "failsafe" }>): Rule {
    const arrives = (direction === "ingress") !== reply;
    const chain = failsafeChain(direction, reply);
    this.#addChain(chain, [
      ...isWorkload(arrives ? "in" : "out", this.#settings).map((match) => makeRule(match, RETURN)),
      ...this.#settings.failsafes[direction].flatMap((entry) => {
        const match = failsafePort(entry, reply, arrives, this.#family);
        return match === undefined ? [] : [makeRule(match, ACCEPT)];
      }),
    ]);
    return makeRule(ANY, { do: "jump", chain });
  }

  #dispatchToWorkload({ direction }: StageStep): Rule[] {
    const target = { do: "jump", chain: workloadDispatchChain(direction) } as const;
    return isWorkload(direction === "egress" ? "in" : "out", this.#settings).map((match) => makeRule(match, target));
  }
}

function failsafePort(
  { protocol, port, net }: FailsafePort,
  reply: boolean,
  arrives: boolean,
  family: Family,
): Match | undefined {
  if (net !== undefined && prefixFamily(net) !== family) return undefined;
  const other: Match = net === undefined ? {} : { [arrives ? "source" : "destination"]: net };
  return { ...other, protocol, extensions: [multiport(reply ? "source" : "destination", [String(port)])] };
}

/** The match of ICMPv6 has no ranges. */
function icmpTypes(from: number, to: number): Match[] {
  return Array.from({ length: to - from + 1 }, (_, i) => ({
    protocol: ICMPV6,
    extensions: [icmp(6, from + i, undefined)],
  }));
}

function dispatchToHosts({ hook, direction }: StageStep): Rule {
  return makeRule(ANY, { do: "jump", chain: hostDispatchChain(hook, direction) });
}
