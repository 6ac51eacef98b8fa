/**
 * Groups: endpoints that no selector and no named port can tell apart: same labels, same parents, same ports. A cluster has far fewer groups
 * than pods, so selectors are evaluated, and their results kept, once per group.
 *
 * Labels are interned: the same name and value is the same object in all groups. Labels and groups are reference-counted.
 */
import { equal } from "../lib/equal.ts";
import type { EndpointRow, NamedPort } from "../model/endpoint.ts";
import { formatKey } from "../model/key.ts";
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
  readonly namespace: Parent | undefined;
  readonly serviceAccount: Parent | undefined;
  readonly ports: readonly NamedPort[];
  rows = 0;

  constructor(
    id: string,
    terms: readonly Term[],
    namespace: Parent | undefined,
    serviceAccount: Parent | undefined,
    ports: readonly NamedPort[],
  ) {
    this.id = id;
    this.terms = terms;
    this.namespace = namespace;
    this.serviceAccount = serviceAccount;
    this.ports = ports;
  }

  get parents(): readonly Parent[] {
    return [this.namespace, this.serviceAccount].flatMap((parent) => parent ?? []);
  }

  get(label: string): string | undefined {
    if (label.startsWith(NAMESPACE_PREFIX)) return this.namespace?.labels.get(label);
    if (label.startsWith(SERVICE_ACCOUNT_PREFIX)) return this.serviceAccount?.labels.get(label);
    for (const term of this.terms) if (term.label === label) return term.value;
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
    const isSame = latest !== undefined && latest.rows > 0 && equal(latest.ports, row.ports);
    const group = isSame ? latest : this.#groupOf(row);
    if (group !== latest) this.#byLabels.set(row.labels, group);
    group.rows++;
    return group;
  }

  #groupOf(row: EndpointRow): Group {
    const terms = [...row.labels].map(([label, value]) => this.#term(label, value)).sort((a, b) => a.number - b.number);
    // The labels include the names of the parents: the converter adds them.
    const id = `${terms.map(({ number }) => number).join()}${row.ports.length === 0 ? "" : JSON.stringify(row.ports)}`;
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

  #create(id: string, terms: readonly Term[], { namespace, serviceAccount, ports }: EndpointRow): Group {
    const space =
      namespace === undefined
        ? undefined
        : this.parents.of(formatKey({ kind: "Namespace", namespace: undefined, name: namespace }), NAMESPACE_PREFIX);
    const account =
      namespace === undefined || serviceAccount === undefined
        ? undefined
        : this.parents.of(
            formatKey({ kind: "ServiceAccount", namespace, name: serviceAccount }),
            SERVICE_ACCOUNT_PREFIX,
          );
    const group = new Group(id, terms, space, account, ports);
    for (const term of terms) term.groups++;
    for (const parent of group.parents) parent.uses++;
    this.#groups.set(id, group);
    return group;
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
