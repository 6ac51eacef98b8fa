/**
 * Unknowns: what manifests do not contain, and which verdicts are possible all the same: the addresses of pods that do not run yet, the labels
 * of namespaces and service accounts that are defined elsewhere, and the endpoints of such Services.
 *
 * Each rule is tried with an address of every region that it can tell apart, and labels that are not known notice that they are asked for: a
 * rule that has one result throughout, and asked for nothing unknown, has it in every case. Every other rule may match or not, and the
 * verdict is followed both ways. So what all possible verdicts have in common holds in every case; not every one of them need be possible.
 */
import { formatKey } from "../model/key.ts";
import type { Verdict } from "../model/verdict.ts";
import type { Addr } from "../net/addr.ts";
import type { FlowPacket } from "../net/flow.ts";
import type {
  Cluster,
  ClusterPolicy,
  Labelled,
  LabelMap,
  WrittenPort,
  WrittenRule,
  WrittenSide,
} from "../semantics/cluster.ts";
import { decide, type End } from "../semantics/decide.ts";
import { type Endpoint, matches, portOf, selects } from "../semantics/match.ts";
import { isPlaceholder, NAMESPACE_NAME_LABEL } from "./placeholders.ts";
import { type Completion, type Regions, regionsOf } from "./regions.ts";

/** What is not known of a cluster, beside the addresses that are placeholders. */
export interface Unknowns {
  /** Namespaces of which no labels but the name are known. */
  readonly namespaces: readonly string[];
  /** The service accounts, `NAMESPACE/NAME`, of which the labels are known; undefined: all. */
  readonly knownAccounts?: ReadonlySet<string> | undefined;
  /** The Services, `NAMESPACE/NAME`, whose endpoints are all known; undefined: all. */
  readonly knownServices?: ReadonlySet<string> | undefined;
}

export const NOTHING_UNKNOWN: Unknowns = { namespaces: [] };

type Answer = "yes" | "no" | "maybe";

/** Of so many policies that may select an endpoint or not, every combination is tried. */
const MOST_DOUBTFUL = 6;
/** So many combinations of addresses are tried for a rule. */
const MOST_COMPLETIONS = 2_000;

/** A cluster in which labels that are not known notice that they are asked for. */
export class Veil {
  readonly cluster: Cluster;
  readonly #unknowns: Unknowns;
  readonly #regions: Regions;
  #asked = false;

  constructor(cluster: Cluster, unknowns: Unknowns) {
    this.#unknowns = unknowns;
    const veil = <T extends Labelled>(each: T): T => {
      const prefixes = this.#hiddenOf(each);
      return prefixes.length === 0 ? each : { ...each, labels: this.#veiled(each.labels, prefixes) };
    };
    this.cluster = { ...cluster, pods: cluster.pods.map(veil), networkSets: cluster.networkSets.map(veil) };
    this.#regions = regionsOf(this.cluster);
  }

  /** Whether the policy may be one for the endpoint. */
  readonly maySelect = (policy: ClusterPolicy, endpoint: Endpoint): boolean =>
    this.#watch(() => selects(policy, endpoint)) !== "no";

  /** Whether something that is not known can make a difference to the packet. */
  concerns(part: Cluster, { source, destination }: FlowPacket): boolean {
    return (
      isPlaceholder(source) ||
      isPlaceholder(destination) ||
      this.#unknowns.knownServices !== undefined ||
      [...part.pods, ...part.networkSets].some((each) => this.#hiddenOf(each).length > 0)
    );
  }

  /** The verdicts that are possible, the first for the case that no doubtful rule matches. `part` is a part of the veiled cluster. */
  verdicts(part: Cluster, packet: FlowPacket, end: End, endpoint: Endpoint): readonly Verdict[] {
    const found = new Map<string, Verdict>();
    const sure: ClusterPolicy[] = [];
    const doubtful: ClusterPolicy[] = [];
    for (const policy of part.policies) {
      const answer = this.#watch(() => selects(policy, endpoint));
      if (answer !== "no") (answer === "yes" ? sure : doubtful).push(policy);
    }
    const add = (verdict: Verdict): void => void found.set(JSON.stringify([verdict.action, verdict.reason]), verdict);
    const answers = new Map<string, Answer>();
    const tried = doubtful.length > MOST_DOUBTFUL ? [[], doubtful] : subsets(doubtful);
    for (const chosen of tried) {
      const selecting = new Set([...sure, ...chosen]);
      const policies = part.policies
        .filter((policy) => selecting.has(policy))
        .map((policy) =>
          chosen.includes(policy) ? { ...policy, namespace: undefined, state: "closed-to-all" as const } : policy,
        );
      for (const verdict of this.#follow({ ...part, policies }, part, packet, end, answers)) add(verdict);
    }
    if (doubtful.length > MOST_DOUBTFUL) {
      const { direction } = end;
      const keys = doubtful.map(({ key }) => key);
      add({ action: "allow", reason: { type: "end", direction } });
      add({
        action: "deny",
        reason: { type: "no-rule-matched", tier: doubtful[0]?.tier ?? "", policies: keys, direction },
      });
    }
    return [...found.values()];
  }

  /** `selected` has the policies that apply; `answers` remembers, by rule, what was found. */
  #follow(
    selected: Cluster,
    part: Cluster,
    packet: FlowPacket,
    end: End,
    answers: Map<string, Answer>,
  ): readonly Verdict[] {
    const { direction } = end;
    const nameOf = (policy: Pick<ClusterPolicy, "key">, index: number): string => `${formatKey(policy.key)} ${index}`;
    const originals = new Map(part.policies.map((policy) => [formatKey(policy.key), policy]));
    const answerOf = (policy: ClusterPolicy, rule: WrittenRule, index: number): Answer => {
      const name = nameOf(policy, index);
      const answer =
        answers.get(name) ?? this.#matches(part, packet, end, originals.get(formatKey(policy.key)) ?? policy, rule);
      answers.set(name, answer);
      return answer;
    };
    const withRules = (settled: ReadonlyMap<string, boolean>): Cluster => ({
      ...selected,
      policies: selected.policies.map((policy) => {
        const rules = policy[direction]?.map((rule, index): WrittenRule => {
          const answer = answerOf(policy, rule, index);
          if (answer === "no") return NEVER;
          const { action } = rule;
          if (answer === "yes") return { ...ALWAYS, action };
          if (action === "log") return NEVER;
          const isSettled = settled.get(nameOf(policy, index));
          return isSettled === undefined ? ALWAYS : isSettled ? { ...ALWAYS, action } : NEVER;
        });
        return rules === undefined ? policy : { ...policy, [direction]: rules };
      }),
    });
    const verdicts: Verdict[] = [];
    const reached = new Set<string>();
    const walk = (settled: ReadonlyMap<string, boolean>): void => {
      const verdict = decide(withRules(settled), packet, end);
      const { reason } = verdict;
      const name = reason.type === "rule" ? nameOf({ key: reason.policy }, reason.index) : undefined;
      if (name === undefined || answers.get(name) !== "maybe" || settled.has(name)) return void verdicts.push(verdict);
      // What follows a rule does not depend on how it was reached.
      if (reached.has(name)) return;
      reached.add(name);
      walk(new Map([...settled, [name, false]]));
      walk(new Map([...settled, [name, true]]));
    };
    walk(new Map());
    return verdicts;
  }

  #matches(part: Cluster, packet: FlowPacket, end: End, policy: ClusterPolicy, rule: WrittenRule): Answer {
    const { direction } = end;
    const completions = this.#regions(part, packet, rule);
    if (completions.length > MOST_COMPLETIONS) return "maybe";
    const found = new Set<Answer>();
    for (const each of completions)
      for (const variant of this.#variants(rule, packet, each.cluster)) {
        found.add(this.#try(each, variant, policy, direction));
        if (found.size > 1) return "maybe";
      }
    return [...found][0] ?? "no";
  }

  #try({ cluster, packet }: Completion, rule: WrittenRule, policy: ClusterPolicy, direction: End["direction"]): Answer {
    return this.#watch(() => matches({ cluster, packet, direction }, policy, rule));
  }

  /** The rule as it is and, where the endpoints of a Service are not known, as if the address was one of them, at any port. */
  #variants(rule: WrittenRule, { source, destination }: FlowPacket, { endpoints }: Cluster): readonly WrittenRule[] {
    const { knownServices } = this.#unknowns;
    if (knownServices === undefined) return [rule];
    const isOpen = (service: string, addr: Addr): boolean =>
      !knownServices.has(service) && (isPlaceholder(addr) || endpoints.every((each) => each.service !== service));
    const opened: WrittenRule = {
      ...rule,
      source: openSide(rule.source, (service) => isOpen(service, source)),
      destination: openSide(rule.destination, (service) => isOpen(service, destination)),
    };
    return opened.source === rule.source && opened.destination === rule.destination ? [rule] : [rule, opened];
  }

  /** `maybe` where something unknown was asked for. */
  #watch(ask: () => boolean): Answer {
    this.#asked = false;
    const answer = ask();
    return this.#asked ? "maybe" : answer ? "yes" : "no";
  }

  /** How the names of its labels begin that are not known. */
  #hiddenOf({ namespace, labels }: Labelled): readonly string[] {
    if (namespace === undefined) return [];
    const { namespaces, knownAccounts } = this.#unknowns;
    const account = Object.hasOwn(labels, ACCOUNT) ? labels[ACCOUNT] : undefined;
    const isAccountKnown =
      account === undefined || knownAccounts === undefined || knownAccounts.has(`${namespace}/${account}`);
    return [...(namespaces.includes(namespace) ? ["pcns."] : []), ...(isAccountKnown ? [] : ["pcsa."])];
  }

  #veiled(labels: LabelMap, prefixes: readonly string[]): LabelMap {
    const notice = (name: string | symbol): void => {
      if (typeof name === "string" && prefixes.some((prefix) => name.startsWith(prefix)) && !KNOWN_LABELS.has(name))
        this.#asked = true;
    };
    return new Proxy(labels, {
      get: (all, name) => {
        notice(name);
        return typeof name === "string" ? all[name] : undefined;
      },
      getOwnPropertyDescriptor: (all, name) => {
        notice(name);
        return Reflect.getOwnPropertyDescriptor(all, name);
      },
    });
  }
}

const ACCOUNT = "projectcalico.org/serviceaccount";
const KNOWN_LABELS = new Set([
  "pcns.projectcalico.org/name",
  "pcsa.projectcalico.org/name",
  `pcns.${NAMESPACE_NAME_LABEL}`,
]);

const ALWAYS: WrittenRule = { action: "allow", source: {}, destination: {} };
const NEVER: WrittenRule = { action: "log", source: { among: [[]] }, destination: {} };

function subsets<T>(all: readonly T[]): (readonly T[])[] {
  return all.reduce<(readonly T[])[]>((found, each) => [...found, ...found.map((some) => [...some, each])], [[]]);
}

function openSide(side: WrittenSide, isOpen: (service: string) => boolean): WrittenSide {
  const { among = [], ports = [] } = side;
  const isOpenPeer = (peer: object): boolean =>
    "service" in peer && typeof peer.service === "string" && isOpen(peer.service);
  const isOpenPort = (entry: WrittenPort): boolean => {
    const { port } = portOf(entry);
    return port !== undefined && "service" in port && isOpen(port.service);
  };
  if (!among.flat().some(isOpenPeer) && !ports.some(isOpenPort)) return side;
  const { among: _, ports: __, ...rest } = side;
  return {
    ...rest,
    among: among.filter((peers) => !peers.some(isOpenPeer)),
    ...(ports.length === 0
      ? {}
      : {
          ports: ports.map((entry) =>
            isOpenPort(entry) ? { protocols: portOf(entry).protocols, port: { from: 0, to: 65535 } } : entry,
          ),
        }),
  };
}
