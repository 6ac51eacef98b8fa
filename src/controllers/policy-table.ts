/**
 * policy-table: what is known of policies, tiers and nodes, and which policies may have new conditions because of a change. Pure.
 *
 * A node's word on a policy counts once the node has seen the policy's present generation: its report names, for each kind, the
 * resourceVersion up to which it holds. A node that has, and does not list the policy, has no endpoint that it selects.
 */
import { equal } from "../lib/equal.ts";
import type { KeyText } from "../model/key.ts";
import {
  isReportedKey,
  type NodeReport,
  type PolicyState,
  type ReportedKind,
} from "../model/kinds/node-policy-status.ts";
import { hasReached, type Revision, revisionOf } from "../model/revision.ts";
import { BUILT_IN_TIERS } from "../model/tier.ts";
import type { Condition, PolicyFacts } from "./acceptance.ts";
import { conditionsOf, type Tally } from "./conditions.ts";

interface Entry {
  readonly facts: PolicyFacts;
  /** The resourceVersion from which on a node has seen this generation; undefined: every node has. */
  readonly since: Revision | undefined;
}

export class PolicyTable {
  readonly #policies = new Map<KeyText, Entry>();
  readonly #tiers = new Set<string>(BUILT_IN_TIERS.keys());
  readonly #nodes = new Set<string>();
  /** By name of the node, whether or not it exists. */
  readonly #reports = new Map<string, NodeReport>();
  /** The reports that count, of nodes that exist; and what these say, by policy and node. */
  readonly #counted = new Map<string, NodeReport>();
  readonly #words = new Map<KeyText, Map<string, PolicyState>>();
  /** Nodes that exist and list nothing, because it is too much. */
  readonly #silent = new Set<string>();
  /** How far all nodes have seen each kind, as far as it was asked since a report changed. */
  readonly #seenByAll = new Map<ReportedKind, Revision | undefined>();
  /** Policies of which some node has yet to speak. */
  readonly #waiting = new Set<KeyText>();
  /** Policies that may have new conditions; whoever writes them takes them out. */
  readonly dirty = new Set<KeyText>();

  setPolicy(id: KeyText, facts: PolicyFacts | undefined): void {
    if (facts === undefined) {
      for (const set of [this.#policies, this.#waiting, this.dirty]) set.delete(id);
      return;
    }
    const before = this.#policies.get(id);
    const isSame = before?.facts.uid === facts.uid && before.facts.generation === facts.generation;
    const isKnown = before === undefined && wasProgrammed(facts);
    const since = isSame ? before.since : isKnown ? undefined : revisionOf(facts.revision);
    this.#policies.set(id, { facts, since });
    this.dirty.add(id);
  }

  setTier(name: string, exists: boolean): void {
    if (BUILT_IN_TIERS.has(name) || this.#tiers.has(name) === exists) return;
    if (exists) this.#tiers.add(name);
    else this.#tiers.delete(name);
    for (const [id, { facts }] of this.#policies) if (facts.tier === name) this.dirty.add(id);
  }

  setNode(name: string, exists: boolean): void {
    if (exists) this.#nodes.add(name);
    else this.#nodes.delete(name);
    this.#count(name);
  }

  setReport(node: string, report: NodeReport | undefined): void {
    if (report === undefined) this.#reports.delete(node);
    else this.#reports.set(node, report);
    this.#count(node);
  }

  /** Makes what the node says count as it should. */
  #count(node: string): void {
    const before = this.#counted.get(node);
    const now = this.#nodes.has(node) ? this.#reports.get(node) : undefined;
    if (before === now) return;
    if (now === undefined) this.#counted.delete(node);
    else this.#counted.set(node, now);
    this.#seenByAll.clear();
    for (const [id, state] of before?.policies ?? [])
      if (!equal(state, now?.policies.get(id))) this.#hear(id, node, undefined);
    for (const [id, state] of now?.policies ?? [])
      if (!equal(state, before?.policies.get(id))) this.#hear(id, node, state);
    for (const id of this.#waiting) this.#touch(id);
    if (now?.isLeftOut === true) this.#silent.add(node);
    else this.#silent.delete(node);
    if (before?.isLeftOut === true || now?.isLeftOut === true || this.#counted.size === 0) this.#touchAll();
    else if (now !== undefined && (before === undefined || hasGoneBack(before, now))) this.#touchUnseen(now);
  }

  #hear(id: KeyText, node: string, state: PolicyState | undefined): void {
    const words = this.#words.get(id) ?? new Map<string, PolicyState>();
    if (state === undefined) words.delete(node);
    else words.set(node, state);
    if (words.size === 0) this.#words.delete(id);
    else this.#words.set(id, words);
    this.#touch(id);
  }

  #touchAll(): void {
    for (const id of this.#policies.keys()) this.dirty.add(id);
  }

  #touchUnseen({ observed }: NodeReport): void {
    for (const [id, { facts, since }] of this.#policies) {
      const { key } = facts;
      if (isReportedKey(key) && !hasSeen(observed.get(key.kind), since)) this.dirty.add(id);
    }
  }

  #touch(id: KeyText): void {
    if (this.#policies.has(id)) this.dirty.add(id);
  }

  policy(id: KeyText): PolicyFacts | undefined {
    return this.#policies.get(id)?.facts;
  }

  /** undefined: as stored, or the policy is gone. */
  conditions(id: KeyText, now: string): readonly Condition[] | undefined {
    const entry = this.#policies.get(id);
    if (entry === undefined) return undefined;
    const { facts } = entry;
    const tally = this.#tally(id, entry);
    if (tally.pending.length > 0 || tally.nodes === 0) this.#waiting.add(id);
    else this.#waiting.delete(id);
    const tierExists = facts.tier === undefined || this.#tiers.has(facts.tier);
    return conditionsOf(facts, tally, { tierExists, now });
  }

  #tally(id: KeyText, { facts, since }: Entry): Tally {
    const { key, generation } = facts;
    const pending = new Set(isReportedKey(key) ? this.#unseen(key.kind, since) : []);
    const silent = [...this.#silent].filter((node) => !pending.has(node));
    const refused: { node: string; reason: string }[] = [];
    let programmed = 0;
    for (const [node, state] of this.#words.get(id) ?? []) {
      if (pending.has(node)) continue;
      if (state.generation !== generation) pending.add(node);
      else if (state.state === "refused") refused.push({ node, reason: state.reason ?? "" });
      else programmed++;
    }
    return { nodes: this.#counted.size, programmed, refused, pending: [...pending], silent };
  }

  /** The nodes that have not seen policies of the kind so far. */
  #unseen(kind: ReportedKind, since: Revision | undefined): readonly string[] {
    if (hasSeen(this.#leastSeen(kind), since)) return [];
    return [...this.#counted].flatMap(([node, { observed }]) => (hasSeen(observed.get(kind), since) ? [] : [node]));
  }

  #leastSeen(kind: ReportedKind): Revision | undefined {
    if (!this.#seenByAll.has(kind)) {
      let least: Revision | undefined = Infinity;
      for (const { observed } of this.#counted.values()) {
        const seen = observed.get(kind);
        least = typeof seen === "number" && typeof least === "number" ? Math.min(least, seen) : undefined;
      }
      this.#seenByAll.set(kind, least);
    }
    return this.#seenByAll.get(kind);
  }
}

function hasSeen(observed: Revision | undefined, since: Revision | undefined): boolean {
  return since === undefined || hasReached(observed, since);
}

/** As when the datastore is restored from an older state. */
function hasGoneBack(before: NodeReport, now: NodeReport): boolean {
  return [...before.observed].some(([kind, revision]) => !hasReached(now.observed.get(kind), revision));
}

/** All nodes had seen the generation when this was written. */
function wasProgrammed({ conditions, generation }: PolicyFacts): boolean {
  return conditions.some(
    ({ type, status, observedGeneration }) =>
      type === "Programmed" && status === "True" && observedGeneration === generation,
  );
}
