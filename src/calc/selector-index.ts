/**
 * Selector index: which rows satisfy which selectors, kept up to date as either side changes.
 *
 * Selectors are evaluated against groups of rows that no selector can tell apart. Work for a changed row is proportional to the selectors that
 * match it, and if it is the first of its group, to those indexed by its labels; for a new selector, to the groups with the labels of its index
 * keys; for a relabelled namespace, to the selectors that mention the label, times the groups of that namespace. A hot loop.
 */
import { addTo, type Bag, hasValue, removeFrom, sizeOf, valuesOf, withoutValue, withValue } from "../lib/bag.ts";
import { NAMESPACE_LABEL, NAMESPACE_PREFIX, ORCHESTRATOR_LABEL, SERVICE_ACCOUNT_PREFIX } from "../model/labels.ts";
import { evaluateSelector } from "../model/selector/evaluate.ts";
import type { Selector } from "../model/selector/selector.ts";
import type { EndpointsDelta, Row } from "./endpoints.ts";
import { type Group, termText } from "./groups.ts";
import { type IndexKey, indexKeysOf } from "./index-key.ts";
import type { Parent } from "./parents.ts";

/**
 * Which row satisfied the selector of that id, and which does now; undefined: none. One that is replaced by a row of another group goes, then
 * its successor comes.
 */
export type Visit = (id: string, before: Row | undefined, now: Row | undefined) => void;

interface Entry {
  readonly id: string;
  readonly selector: Selector;
  readonly keys: readonly IndexKey[];
  readonly items: Set<Item>;
}

interface Item {
  readonly group: Group;
  rows: Bag<Row>;
  entries: Bag<Entry>;
}

export class SelectorIndex {
  readonly #entries = new Map<string, Entry>();
  readonly #items = new Map<Group, Item>();
  /** Entries by namespace (or ""), then by term (or ""). */
  readonly #buckets = new Map<string, Map<string, Bag<Entry>>>();
  /** Entries by the labels that occur anywhere in them: any may be inherited. */
  readonly #mentions = new Map<string, Bag<Entry>>();
  /** Items by each of their own labels, and by parent. */
  readonly #byTerm = new Map<string, Bag<Item>>();
  readonly #byParent = new Map<Parent, Bag<Item>>();
  /** Those of them that are profiles, whose labels may have any name. */
  readonly #profiles = new Set<Parent>();

  /** The number of groups that have rows. */
  get size(): number {
    return this.#items.size;
  }

  /** Applies changed rows and relabelled parents, and visits each match gained or lost by the selectors in the index. */
  step(delta: EndpointsDelta, visit: Visit): void {
    const emptied = new Set<Item>();
    const coming: Row[] = [];
    for (const { before, now } of delta.rows.values()) {
      const item = before === undefined ? undefined : this.#items.get(before.group);
      const successor = item !== undefined && now?.group === before?.group ? now : undefined;
      if (now !== undefined && successor === undefined) coming.push(now);
      if (before === undefined || item === undefined) continue;
      for (const { id } of valuesOf(item.entries)) visit(id, before, successor);
      item.rows = withoutValue(item.rows, before);
      if (successor !== undefined) item.rows = withValue(item.rows, successor);
      else if (item.rows === undefined) emptied.add(item);
    }
    for (const [parent, labels] of delta.relabelled) this.#relabel(parent, labels, visit);
    for (const now of coming) {
      const item = this.#items.get(now.group) ?? this.#put(now.group);
      item.rows = withValue(item.rows, now);
      for (const { id } of valuesOf(item.entries)) visit(id, undefined, now);
    }
    for (const item of emptied) if (item.rows === undefined) this.#remove(item);
  }

  /** Adds a selector that is not in the index yet, under `id`. */
  addSelector(id: string, selector: Selector): void {
    const entry: Entry = { id, selector, keys: indexKeysOf(selector), items: new Set() };
    this.#entries.set(id, entry);
    for (const key of entry.keys) {
      const bucket = this.#buckets.get(key.namespace ?? "") ?? new Map<string, Bag<Entry>>();
      this.#buckets.set(key.namespace ?? "", bucket);
      addTo(bucket, termTextOf(key), entry);
      for (const item of this.#candidates(key)) if (evaluateSelector(selector, item.group)) join(entry, item);
    }
    for (const label of labelsIn(selector)) addTo(this.#mentions, label, entry);
  }

  removeSelector(id: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    this.#entries.delete(id);
    for (const key of entry.keys) {
      const bucket = this.#buckets.get(key.namespace ?? "");
      if (bucket === undefined) continue;
      removeFrom(bucket, termTextOf(key), entry);
      if (bucket.size === 0) this.#buckets.delete(key.namespace ?? "");
    }
    for (const label of labelsIn(entry.selector)) removeFrom(this.#mentions, label, entry);
    for (const item of entry.items) item.entries = withoutValue(item.entries, entry);
  }

  /** The rows that satisfy the selector. */
  *rowsOf(id: string): Iterable<Row> {
    for (const item of this.#entries.get(id)?.items ?? []) yield* valuesOf(item.rows);
  }

  /** Ids of the selectors that the rows of the group satisfy. */
  selectorsOf(group: Group): readonly string[] {
    return [...valuesOf(this.#items.get(group)?.entries)].map(({ id }) => id);
  }

  #put(group: Group): Item {
    const item: Item = { group, rows: undefined, entries: undefined };
    this.#items.set(group, item);
    for (const term of group.terms) if (term.label !== ORCHESTRATOR_LABEL) addTo(this.#byTerm, term.text, item);
    for (const parent of group.parents) {
      addTo(this.#byParent, parent, item);
      if (parent.prefix === "") this.#profiles.add(parent);
    }
    for (const bucket of [this.#buckets.get(""), this.#buckets.get(group.get(NAMESPACE_LABEL) ?? "")])
      if (bucket !== undefined) this.#joinBucket(bucket, item);
    return item;
  }

  #remove(item: Item): void {
    for (const entry of valuesOf(item.entries)) entry.items.delete(item);
    for (const { text } of item.group.terms) removeFrom(this.#byTerm, text, item);
    for (const parent of item.group.parents) {
      removeFrom(this.#byParent, parent, item);
      if (!this.#byParent.has(parent)) this.#profiles.delete(parent);
    }
    this.#items.delete(item.group);
  }

  /** Joins an item to those entries of a bucket that it satisfies. */
  #joinBucket(bucket: ReadonlyMap<string, Bag<Entry>>, item: Item): void {
    const joinIndexedBy = (text: string): void => {
      for (const entry of valuesOf(bucket.get(text)))
        if (evaluateSelector(entry.selector, item.group)) join(entry, item);
    };
    joinIndexedBy("");
    for (const { text } of item.group.terms) joinIndexedBy(text);
    for (const parent of item.group.parents)
      for (const [label, value] of parent.labels) joinIndexedBy(termText(label, value));
  }

  #relabel(parent: Parent, labels: ReadonlySet<string>, visit: Visit): void {
    const affected = new Set<Entry>();
    for (const label of labels) for (const entry of valuesOf(this.#mentions.get(label))) affected.add(entry);
    for (const entry of affected)
      for (const item of valuesOf(this.#byParent.get(parent))) {
        const matches = evaluateSelector(entry.selector, item.group);
        if (matches === hasValue(item.entries, entry)) continue;
        if (matches) join(entry, item);
        else {
          entry.items.delete(item);
          item.entries = withoutValue(item.entries, entry);
        }
        for (const row of valuesOf(item.rows))
          if (matches) visit(entry.id, undefined, row);
          else visit(entry.id, row, undefined);
      }
  }

  /** All items that have the labels of the key, and possibly some that do not. */
  #candidates({ namespace, term }: IndexKey): Iterable<Item> {
    if (namespace === undefined && term === undefined) return this.#items.values();
    const inNamespace = namespace === undefined ? undefined : this.#byTerm.get(termText(NAMESPACE_LABEL, namespace));
    if (term === undefined) return valuesOf(inNamespace);
    if (isInherited(term.label)) {
      const children = this.#childrenWith(this.#byParent.keys(), term.label, term.value);
      return namespace !== undefined && sizeOf(inNamespace) < children.length ? valuesOf(inNamespace) : children;
    }
    const withTerm = this.#byTerm.get(termText(term.label, term.value));
    if (namespace !== undefined && sizeOf(inNamespace) < sizeOf(withTerm)) return valuesOf(inNamespace);
    if (this.#profiles.size === 0) return valuesOf(withTerm);
    return [...valuesOf(withTerm), ...this.#childrenWith(this.#profiles, term.label, term.value)];
  }

  #childrenWith(parents: Iterable<Parent>, label: string, value: string): Item[] {
    return [...parents].flatMap((parent) =>
      parent.labels.get(label) === value ? [...valuesOf(this.#byParent.get(parent))] : [],
    );
  }
}

function join(entry: Entry, item: Item): void {
  entry.items.add(item);
  item.entries = withValue(item.entries, entry);
}

function termTextOf({ term }: IndexKey): string {
  return term === undefined ? "" : termText(term.label, term.value);
}

function isInherited(label: string): boolean {
  return label.startsWith(NAMESPACE_PREFIX) || label.startsWith(SERVICE_ACCOUNT_PREFIX);
}

function labelsIn(selector: Selector): string[] {
  switch (selector.op) {
    case "all":
      return [];
    case "not":
      return labelsIn(selector.of);
    case "and":
    case "or":
      return selector.of.flatMap(labelsIn);
    default:
      return [selector.label];
  }
}
