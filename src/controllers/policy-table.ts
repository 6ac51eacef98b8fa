/**
 * policy-table: what is known of policies, tiers and nodes, and which policies may have new conditions because of a change. Pure.
 *
 * A node's word on a policy counts once the node has seen the policy's present generation: its report names, for each kind, the
 * resourceVersion up to which it holds. A node that has, and does not list the policy, has no endpoint that it selects.
 */
import { equal } from "../lib/equal.ts";
import type { KeyText } from "../model/key.ts";
import { hasReached, isReportedKey, type NodeReport, type ReportedKind } from "../model/kinds/node-policy-status.ts";
import { BUILT_IN_TIERS } from "../model/tier.ts";
import type { Condition, PolicyFacts } from "./acceptance.ts";
import { conditionsOf, type Tally } from "./conditions.ts";

interface Entry {
  readonly facts: PolicyFacts;
  /** The resourceVersion from which on a node has seen this generation; undefined: every node has. */
  readonly since: string | undefined;
}

export class PolicyTable {
  readonly #policies = new Map<KeyText, Entry>();
  readonly #tiers = new Set<string>(BUILT_IN_TIERS.keys());
  readonly #nodes = new Set<string>();
  /** By name of the node, whether or not it exists. */
  readonly #reports = new Map<string, NodeReport>();
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
    const since = isSame ? before.since : before === undefined && wasProgrammed(facts) ? undefined : facts.revision;
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
    if (this.#nodes.has(name) === exists) return;
    const report = this.#reports.get(name);
    if (exists) this.#nodes.add(name);
    else this.#nodes.delete(name);
    if (exists) this.#replaced(undefined, report);
    else this.#replaced(report, undefined);
  }

  setReport(node: string, report: NodeReport | undefined): void {
    const before = this.#reports.get(node);
    if (report === undefined) this.#reports.delete(node);
    else this.#reports.set(node, report);
    if (this.#nodes.has(node)) this.#replaced(before, report);
  }

  /** A report counts in place of another. */
  #replaced(before: NodeReport | undefined, now: NodeReport | undefined): void {
    for (const [id, state] of before?.policies ?? []) if (!equal(state, now?.policies.get(id))) this.#touch(id);
    for (const id of now?.policies.keys() ?? []) if (before?.policies.has(id) !== true) this.#touch(id);
    for (const id of this.#waiting) this.#touch(id);
    if (now === undefined) return;
    if (before?.isLeftOut !== now.isLeftOut) this.#touchUnseen(now, before?.isLeftOut === true);
  }

  /** Policies that a node which begins to speak has not seen; all, if it begins to list them, or stops to. */
  #touchUnseen(now: NodeReport, wasLeftOut: boolean): void {
    for (const [id, entry] of this.#policies) {
      const { key } = entry.facts;
      if (isReportedKey(key) && (wasLeftOut || now.isLeftOut || !hasSeen(now, key.kind, entry))) this.dirty.add(id);
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

  #tally(id: KeyText, entry: Entry): Tally {
    const { key, generation } = entry.facts;
    const refused: { node: string; reason: string }[] = [];
    const pending: string[] = [];
    const silent: string[] = [];
    let [nodes, programmed] = [0, 0];
    if (!isReportedKey(key)) return { nodes: 1, programmed, refused, pending, silent };
    for (const [node, report] of this.#reports) {
      if (!this.#nodes.has(node)) continue;
      nodes++;
      const state = report.policies.get(id);
      if (!hasSeen(report, key.kind, entry)) pending.push(node);
      else if (report.isLeftOut) silent.push(node);
      else if (state === undefined) continue;
      else if (state.generation !== generation) pending.push(node);
      else if (state.state === "refused") refused.push({ node, reason: state.reason ?? "" });
      else programmed++;
    }
    return { nodes, programmed, refused, pending, silent };
  }
}

function hasSeen({ observed }: NodeReport, kind: ReportedKind, { since }: Entry): boolean {
  return since === undefined || hasReached(observed.get(kind), since);
}

/** All nodes had seen the generation when this was written. */
function wasProgrammed({ conditions, generation }: PolicyFacts): boolean {
  return conditions.some(
    ({ type, status, observedGeneration }) =>
      type === "Programmed" && status === "True" && observedGeneration === generation,
  );
}
