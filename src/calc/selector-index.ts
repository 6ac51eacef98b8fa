/**
 * Selector index: which rows satisfy which selectors, kept up to date as either side changes.
 *
 * Work for a changed row is proportional to the selectors filed under its labels; for a new selector, to the rows with the label it is
 * filed under; for a relabelled namespace, to the selectors that mention the label, times the rows of that namespace. A hot loop.
 */
import type { KeyText } from "../model/key.ts";
import { NAMESPACE_LABEL, NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX } from "../model/labels.ts";
import { evaluateSelector } from "../model/selector/evaluate.ts";
import type { Selector } from "../model/selector/selector.ts";
import { type Drawer, drawersOf } from "./filing.ts";
import type { EndpointsDelta, Parent, PodRow } from "./endpoints.ts";

/** Rows that came to match (true) or no longer do (false), by the selector's id. */
export type MatchChanges = ReadonlyMap<string, ReadonlyMap<KeyText, boolean>>;

interface Entry {
  readonly id: string;
  readonly selector: Selector;
  readonly drawers: readonly Drawer[];
  readonly items: Set<Item>;
}

interface Item {
  row: PodRow;
  readonly entries: Set<Entry>;
}

export class SelectorIndex {
  readonly #entries = new Map<string, Entry>();
  readonly #items = new Map<KeyText, Item>();
  /** Entries by namespace (or "") and term (or ""). */
  readonly #filed = new Map<string, Map<string, Set<Entry>>>();
  /** Entries by the inherited labels that occur anywhere in them. */
  readonly #mentions = new Map<string, Set<Entry>>();
  /** Items by each of their own labels, and by parent. */
  readonly #byTerm = new Map<string, Set<Item>>();
  readonly #byParent = new Map<Parent, Set<Item>>();
  #changes = new Map<string, Map<KeyText, boolean>>();

  /** Takes in changed rows and relabelled parents, and answers what changed for the selectors that are in the index. */
  step(delta: EndpointsDelta): MatchChanges {
    for (const [key, row] of delta.rows) this.#setRow(key, row);
    for (const [parent, labels] of delta.relabelled) this.#relabel(parent, labels);
    const changes = this.#changes;
    this.#changes = new Map();
    return changes;
  }

  /** The rows that satisfy a selector new to the index. `id` stands for the selector from here on. */
  addSelector(id: string, selector: Selector): readonly PodRow[] {
    const entry: Entry = { id, selector, drawers: drawersOf(selector), items: new Set() };
    this.#entries.set(id, entry);
    for (const drawer of entry.drawers) {
      const shelf = this.#filed.get(drawer.namespace ?? "") ?? new Map<string, Set<Entry>>();
      this.#filed.set(drawer.namespace ?? "", shelf);
      addTo(shelf, termText(drawer.term), entry);
      for (const item of this.#candidates(drawer)) {
        if (!evaluateSelector(selector, item.row.labels)) continue;
        entry.items.add(item);
        item.entries.add(entry);
      }
    }
    for (const label of inheritedLabelsIn(selector)) addTo(this.#mentions, label, entry);
    return [...entry.items].map(({ row }) => row);
  }

  removeSelector(id: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    this.#entries.delete(id);
    for (const drawer of entry.drawers) {
      const shelf = this.#filed.get(drawer.namespace ?? "");
      if (shelf === undefined) continue;
      removeFrom(shelf, termText(drawer.term), entry);
      if (shelf.size === 0) this.#filed.delete(drawer.namespace ?? "");
    }
    for (const label of inheritedLabelsIn(entry.selector)) removeFrom(this.#mentions, label, entry);
    for (const item of entry.items) item.entries.delete(entry);
  }

  rowsOf(id: string): readonly PodRow[] {
    return [...(this.#entries.get(id)?.items ?? [])].map(({ row }) => row);
  }

  /** Ids of the selectors that the row satisfies. */
  selectorsOf(key: KeyText): readonly string[] {
    return [...(this.#items.get(key)?.entries ?? [])].map(({ id }) => id);
  }

  row(key: KeyText): PodRow | undefined {
    return this.#items.get(key)?.row;
  }

  #setRow(key: KeyText, row: PodRow | undefined): void {
    const known = this.#items.get(key);
    if (known !== undefined) this.#unfile(known);
    if (row === undefined) {
      if (known === undefined) return;
      for (const entry of known.entries) this.#note(entry, key, false);
      for (const entry of known.entries) entry.items.delete(known);
      this.#items.delete(key);
      return;
    }
    const item = known ?? { row, entries: new Set() };
    item.row = row;
    this.#items.set(key, item);
    for (const [label, value] of row.labels.own) addTo(this.#byTerm, `${label}=${value}`, item);
    for (const parent of row.parents) addTo(this.#byParent, parent, item);
    for (const entry of item.entries) this.#check(entry, item);
    for (const shelf of [this.#filed.get(""), this.#filed.get(row.pod.namespace)])
      if (shelf !== undefined) this.#checkShelf(shelf, item);
  }

  #checkShelf(shelf: ReadonlyMap<string, ReadonlySet<Entry>>, item: Item): void {
    for (const entry of shelf.get("") ?? []) this.#check(entry, item);
    for (const [label, value] of item.row.labels.own)
      for (const entry of shelf.get(`${label}=${value}`) ?? []) this.#check(entry, item);
    for (const parent of item.row.parents) {
      for (const [label, value] of parent.labels)
        for (const entry of shelf.get(`${label}=${value}`) ?? []) this.#check(entry, item);
    }
  }

  #relabel(parent: Parent, labels: ReadonlySet<string>): void {
    const affected = new Set<Entry>();
    for (const label of labels) for (const entry of this.#mentions.get(label) ?? []) affected.add(entry);
    for (const entry of affected) for (const item of this.#byParent.get(parent) ?? []) this.#check(entry, item);
  }

  #check(entry: Entry, item: Item): void {
    const matches = evaluateSelector(entry.selector, item.row.labels);
    if (matches === entry.items.has(item)) return;
    if (matches) {
      entry.items.add(item);
      item.entries.add(entry);
    } else {
      entry.items.delete(item);
      item.entries.delete(entry);
    }
    this.#note(entry, item.row.key, matches);
  }

  /** A row that came and went within one step did not change. */
  #note(entry: Entry, key: KeyText, matches: boolean): void {
    const changes = this.#changes.get(entry.id) ?? new Map<KeyText, boolean>();
    this.#changes.set(entry.id, changes);
    if (!changes.delete(key)) changes.set(key, matches);
  }

  #unfile(item: Item): void {
    for (const [label, value] of item.row.labels.own) removeFrom(this.#byTerm, `${label}=${value}`, item);
    for (const parent of item.row.parents) removeFrom(this.#byParent, parent, item);
  }

  /** The rows that have the labels of a drawer, or a few more. */
  #candidates({ namespace, term }: Drawer): Iterable<Item> {
    if (namespace === undefined && term === undefined) return this.#items.values();
    const inNamespace =
      namespace === undefined ? undefined : (this.#byTerm.get(`${NAMESPACE_LABEL}=${namespace}`) ?? []);
    if (term === undefined) return inNamespace ?? [];
    const withTerm = isInherited(term.label)
      ? this.#childrenWith(term.label, term.value)
      : (this.#byTerm.get(termText(term)) ?? []);
    return inNamespace !== undefined && sizeOf(inNamespace) < sizeOf(withTerm) ? inNamespace : withTerm;
  }

  #childrenWith(label: string, value: string): Item[] {
    return [...this.#byParent].flatMap(([parent, items]) => (parent.labels.get(label) === value ? [...items] : []));
  }
}

function termText(term: Drawer["term"]): string {
  return term === undefined ? "" : `${term.label}=${term.value}`;
}

function sizeOf(items: ReadonlySet<Item> | readonly Item[]): number {
  return "size" in items ? items.size : items.length;
}

function isInherited(label: string): boolean {
  return label.startsWith(NAMESPACE_PREFIX) || label.startsWith(SERVICE_ACCOUNT_PREFIX);
}

function inheritedLabelsIn(selector: Selector): string[] {
  switch (selector.op) {
    case "all":
      return [];
    case "not":
      return inheritedLabelsIn(selector.of);
    case "and":
    case "or":
      return selector.of.flatMap(inheritedLabelsIn);
    default:
      return isInherited(selector.label) ? [selector.label] : [];
  }
}

function addTo<K, V>(sets: Map<K, Set<V>>, key: K, value: V): void {
  const set = sets.get(key);
  if (set === undefined) sets.set(key, new Set([value]));
  else set.add(value);
}

function removeFrom<K, V>(sets: Map<K, Set<V>>, key: K, value: V): void {
  const set = sets.get(key);
  set?.delete(value);
  if (set?.size === 0) sets.delete(key);
}
