/**
 * Groups: endpoints that no selector and no named port can tell apart: same labels, same parents, same ports. A cluster has far fewer groups
 * than pods, so selectors are evaluated, and their results kept, once per group.
 *
 * Labels are interned: the same name and value is the same object in all groups. Labels and groups are reference-counted.
 */
import { equal } from "../lib/equal.ts";
import type { EndpointRow, NamedPort } from "../model/endpoint.ts";
import { sourceOfProfile } from "../model/convert/profile.ts";
import { formatKey, type Key } from "../model/key.ts";
import { NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX } from "../model/labels.ts";
import { type Parent, Parents } from "./parents.ts";

/** A label with its value. */
interface Term {
  readonly number: number;
  readonly label: string;
  readonly value: string;
  /** `termText` of both. */
  readonly text: string;
  groups: number;
}

/** Label and value as one text, injective. */
export function termText(label: string, value: string): string {
  return `${label.length} ${label}=${value}`;
}

/** The labels of a group as selectors see them: its own, and the current ones of its parents. */
export class Group {
  readonly id: string;
  readonly terms: readonly Term[];
  readonly ports: readonly NamedPort[];
  /** Whose labels it inherits, first come first served. */
  readonly parents: readonly Parent[];
  /** Names of the profiles among them; undefined: it has none. */
  readonly profiles: readonly string[] | undefined;
  rows = 0;

  constructor(
    id: string,
    terms: readonly Term[],
    parents: readonly Parent[],
    { ports, profiles }: Pick<EndpointRow, "ports" | "profiles">,
  ) {
    this.id = id;
    this.terms = terms;
    this.parents = parents;
    this.ports = ports;
    this.profiles = profiles;
  }

  get(label: string): string | undefined {
    if (!label.startsWith(NAMESPACE_PREFIX) && !label.startsWith(SERVICE_ACCOUNT_PREFIX)) {
      for (const term of this.terms) if (term.label === label) return term.value;
      // A namespace and a service account have no such label.
      if (this.profiles === undefined) return undefined;
    }
    for (const { labels } of this.parents) {
      const value = labels.get(label);
      if (value !== undefined) return value;
    }
    return undefined;
  }
}

export class Groups {
  readonly parents = new Parents();
  readonly #groups = new Map<string, Group>();
  /** By label, then by value. */
  readonly #terms = new Map<string, Map<string, Term>>();
  /** Of labels, which pods of one shape share, the group that was taken for them last. */
  readonly #byLabels = new WeakMap<EndpointRow["labels"], Group>();
  #lastTerm = 0;

  /** The number of groups. */
  get size(): { readonly groups: number; readonly terms: number; readonly parents: number } {
    let terms = 0;
    for (const values of this.#terms.values()) terms += values.size;
    return { groups: this.#groups.size, terms, parents: this.parents.size };
  }

  /** The group of endpoints like this one, with one more row. */
  take(row: EndpointRow): Group {
    const latest = this.#byLabels.get(row.labels);
    const isSame =
      latest !== undefined && latest.rows > 0 && equal(latest.ports, row.ports) && equal(latest.profiles, row.profiles);
    const group = isSame ? latest : this.#groupOf(row);
    if (group !== latest) this.#byLabels.set(row.labels, group);
    group.rows++;
    return group;
  }

  #groupOf(row: EndpointRow): Group {
    const terms = [...row.labels].map(([label, value]) => this.#term(label, value)).sort((a, b) => a.number - b.number);
    // The labels include the names of the parents: the converter adds them.
    const ports = row.ports.length === 0 ? "" : JSON.stringify(row.ports);
    const profiles = row.profiles === undefined ? "" : ` ${JSON.stringify(row.profiles)}`;
    const id = `${terms.map(({ number }) => number).join()}${ports}${profiles}`;
    return this.#groups.get(id) ?? this.#create(id, terms, row);
  }

  /** One row fewer. */
  release(group: Group): void {
    if (--group.rows > 0) return;
    this.#groups.delete(group.id);
    for (const term of group.terms) if (--term.groups === 0) this.#forget(term);
    for (const parent of group.parents) {
      parent.uses--;
      this.parents.tidy(parent);
    }
  }

  #create(id: string, terms: readonly Term[], row: EndpointRow): Group {
    const group = new Group(id, terms, this.#parentsOf(row), row);
    for (const term of terms) term.groups++;
    for (const parent of group.parents) parent.uses++;
    this.#groups.set(id, group);
    return group;
  }

  /** Each once. */
  #parentsOf({ namespace, serviceAccount, profiles = [] }: EndpointRow): Parent[] {
    const keys: Key[] = [];
    if (namespace !== undefined) {
      keys.push({ kind: "Namespace", namespace: undefined, name: namespace });
      if (serviceAccount !== undefined) keys.push({ kind: "ServiceAccount", namespace, name: serviceAccount });
    }
    for (const name of profiles) {
      const source = sourceOfProfile(name);
      if (source !== undefined) keys.push(source);
      keys.push({ kind: "Profile", namespace: undefined, name });
    }
    return [...new Set(keys.map((key) => this.parents.of(formatKey(key), prefixOf(key))))];
  }

  #term(label: string, value: string): Term {
    let values = this.#terms.get(label);
    if (values === undefined) this.#terms.set(label, (values = new Map()));
    let term = values.get(value);
    if (term === undefined) {
      term = { number: ++this.#lastTerm, label, value, text: termText(label, value), groups: 0 };
      values.set(value, term);
    }
    return term;
  }

  #forget({ label, value }: Term): void {
    const values = this.#terms.get(label);
    values?.delete(value);
    if (values?.size === 0) this.#terms.delete(label);
  }
}

function prefixOf({ kind }: Key): Parent["prefix"] {
  return kind === "Namespace" ? NAMESPACE_PREFIX : kind === "ServiceAccount" ? SERVICE_ACCOUNT_PREFIX : "";
}
