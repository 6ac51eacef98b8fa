/**
 * placement: where the program is in the maps, as last planned: numbers of sets, first records of policies, what endpoints run, and who refers to whom.
 * A change is planned from it, without a look at the rest of the program.
 */
import type { KernelError } from "../../kernel/errno.ts";
import type { Key } from "../../model/key.ts";
import type { Direction, Hook } from "../../model/policy.ts";
import type { PolicyId, SetId } from "../../program/policy.ts";
import type { EndpointId } from "../../program/program.ts";
import type { Which } from "../counters.ts";
import type { Image } from "./image.ts";
import type { SetReference } from "./records.ts";

/** A policy of one direction, as it decides or as it counts alone: `ingress NetworkPolicy/shop/web`, `staged-ingress NetworkPolicy/shop/web`. */
export type PolicyKey = `${PolicyUse} ${PolicyId}`;
export type PolicyUse = `${"" | "staged-"}${Direction}`;

export interface PlacedPolicy {
  readonly content: string;
  readonly start: number;
}

export interface PlacedEndpoint {
  /** Of the interface. */
  readonly index: number;
  readonly stages: readonly PlacedStage[];
  /** Number of the set of its source prefixes; 0: it has none. */
  readonly sources: number;
}

/** A stage of an endpoint, or a staged one, and the block that has it. */
export interface PlacedStage {
  readonly which: Which;
  readonly hook: Hook;
  readonly direction: Direction;
  readonly content: string;
}

/** What is not programmed as it is wanted: refused by the kernel, or (without an error) because of another. */
export interface Held {
  readonly row: string;
  readonly object: Key | undefined;
  readonly error: KernelError | undefined;
}

export class Placement {
  readonly sets = new Map<SetId, SetReference>();
  readonly policies = new Map<PolicyKey, PlacedPolicy>();
  readonly endpoints = new Map<EndpointId, PlacedEndpoint>();
  /** By index of the interface. */
  readonly endpointAt = new Map<number, EndpointId>();
  /** Host endpoints of the program, whether their interface is there or not. */
  readonly hosts = new Set<EndpointId>();
  /** By unit: `set ID`, `policy KEY`, `endpoint ID`. */
  readonly held = new Map<string, Held>();
  /** Blocks and sets that nobody uses since the last `takeFreed`. */
  readonly freed = { blocks: new Set<string>(), sets: new Set<number>(), indices: new Set<number>() };
  readonly #setsOf = new References<PolicyKey, SetId>();
  readonly #policiesOf = new References<EndpointId, PolicyKey>();
  readonly #uses = new Map<string, number>();
  #lastSet = 0;

  constructor(image: Image) {
    for (const number of image.sets.keys()) this.#lastSet = Math.max(this.#lastSet, number);
  }

  nextSet(): number {
    return ++this.#lastSet;
  }

  /** Of all sets that somebody wants. */
  setNumbers(): ReadonlySet<number> {
    const sets = [...this.sets.values()].map(({ number }) => number);
    return new Set([...sets, ...[...this.endpoints.values()].map(({ sources }) => sources)]);
  }

  /** Policies whose rules name the set. */
  usersOfSet(set: SetId): Iterable<PolicyKey> {
    return this.#setsOf.usersOf(set);
  }

  /** What the endpoint names from now on, be it programmed or not. Returns what is used for the first time, or no more. */
  name(id: EndpointId, policies: Iterable<PolicyKey>): PolicyKey[] {
    return this.#policiesOf.set(id, policies);
  }

  isNamed(policy: PolicyKey): boolean {
    return this.#policiesOf.isUsed(policy);
  }

  /** Endpoints that name the policy. */
  usersOfPolicy(policy: PolicyKey): Iterable<EndpointId> {
    return this.#policiesOf.usersOf(policy);
  }

  isUsed(content: string): boolean {
    return this.#uses.has(content);
  }

  placeSet(id: SetId, reference: SetReference | undefined): void {
    const before = this.sets.get(id);
    if (before !== undefined && before.number !== reference?.number) this.freed.sets.add(before.number);
    if (reference === undefined) this.sets.delete(id);
    else this.sets.set(id, reference);
  }

  /** undefined: it is in no block; `sets`: those that its rules name all the same. */
  placePolicy(key: PolicyKey, placed: PlacedPolicy | undefined, sets: Iterable<SetId>): void {
    this.#setsOf.set(key, sets);
    const before = this.policies.get(key);
    if (placed === undefined) this.policies.delete(key);
    else this.policies.set(key, placed);
    this.#recount(before && [before.content], placed && [placed.content]);
  }

  placeEndpoint(id: EndpointId, placed: PlacedEndpoint | undefined): void {
    const before = this.endpoints.get(id);
    if (before !== undefined && this.endpointAt.get(before.index) === id) {
      this.endpointAt.delete(before.index);
      this.freed.indices.add(before.index);
    }
    if (before !== undefined && before.sources !== placed?.sources) this.freed.sets.add(before.sources);
    if (placed === undefined) this.endpoints.delete(id);
    else {
      this.endpoints.set(id, placed);
      this.endpointAt.set(placed.index, id);
    }
    const contentsOf = (stages: readonly PlacedStage[] = []): string[] => stages.map(({ content }) => content);
    this.#recount(contentsOf(before?.stages), contentsOf(placed?.stages));
  }

  #recount(before: readonly string[] = [], now: readonly string[] = []): void {
    for (const content of now) this.#uses.set(content, (this.#uses.get(content) ?? 0) + 1);
    for (const content of before) {
      const left = (this.#uses.get(content) ?? 0) - 1;
      if (left > 0) this.#uses.set(content, left);
      else {
        this.#uses.delete(content);
        this.freed.blocks.add(content);
      }
    }
  }
}

/** Who refers to what, both ways. */
class References<User, Used> {
  readonly #used = new Map<User, readonly Used[]>();
  readonly #users = new Map<Used, Set<User>>();

  /** Returns what has got its first user, or lost its last. */
  set(user: User, used: Iterable<Used>): Used[] {
    const before = this.#used.get(user) ?? [];
    const now = [...new Set(used)];
    const wasUsed = new Map([...before, ...now].map((each) => [each, this.isUsed(each)]));
    for (const each of before) {
      const users = this.#users.get(each);
      users?.delete(user);
      if (users?.size === 0) this.#users.delete(each);
    }
    if (now.length === 0) this.#used.delete(user);
    else this.#used.set(user, now);
    for (const each of now) {
      const users = this.#users.get(each);
      if (users === undefined) this.#users.set(each, new Set([user]));
      else users.add(user);
    }
    return [...wasUsed].flatMap(([each, was]) => (was === this.isUsed(each) ? [] : [each]));
  }

  isUsed(used: Used): boolean {
    return this.#users.has(used);
  }

  usersOf(used: Used): readonly User[] {
    return [...(this.#users.get(used) ?? [])];
  }
}
