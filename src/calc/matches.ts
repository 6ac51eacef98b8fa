/** Matches: which policies select which of this node's endpoints, and which endpoints must therefore be recomputed. */
import { formatKey, type KeyText } from "../model/key.ts";
import { enforcedKeyOf, isStagedKey, stagedKeyOf } from "../model/kinds/staged.ts";
import type { PolicyModel } from "../model/policy.ts";
import { formatSelector } from "../model/selector/canonical.ts";
import type { Delta } from "../program/program.ts";
import type { EndpointsDelta, Row, RowChange } from "./endpoints.ts";
import { ranked, type Ranked } from "./ranked.ts";
import { SelectorIndex } from "./selector-index.ts";

/** The policies that select a row. */
export interface Selecting {
  readonly enforced: readonly Ranked[];
  readonly staged: readonly Ranked[];
  /** Those of the enforced ones that would be gone were the staged policies enforced. */
  readonly replaced: ReadonlySet<Ranked>;
}

export class Matches {
  /** Holds only rows with endpoints on this node, and the `selects` of every policy. */
  readonly #index = new SelectorIndex();
  readonly #rows = new Map<KeyText, Row>();
  readonly #policies = new Map<KeyText, { readonly model: PolicyModel; readonly selector: string }>();
  /** How many of them are staged. */
  #staged = 0;
  /** Policies that select by the same text. */
  readonly #bySelector = new Map<string, Map<KeyText, Ranked>>();

  /** The local rows that changed, whose list of policies changed, or one of whose policies changed. */
  step(endpoints: EndpointsDelta, policies: Delta<KeyText, PolicyModel>): ReadonlySet<KeyText> {
    const dirty = new Set<KeyText>();
    const rows = new Map<KeyText, RowChange>();
    for (const [key, change] of endpoints.rows) {
      const [before, now] = [localOf(change.before), localOf(change.now)];
      if (before === undefined && now === undefined) continue;
      rows.set(key, { before, now });
      dirty.add(key);
      if (now === undefined) this.#rows.delete(key);
      else this.#rows.set(key, now);
    }
    this.#index.step({ rows, relabelled: endpoints.relabelled }, (_, before, now) => {
      for (const row of [before, now]) if (row !== undefined) dirty.add(row.key);
    });
    for (const [key, model] of policies) this.#setPolicy(key, model, dirty);
    return dirty;
  }

  row(key: KeyText): Row | undefined {
    return this.#rows.get(key);
  }

  /** The policies that select the row, in no order. */
  policiesOf(key: KeyText): Selecting {
    const found: Ranked[] = [];
    const row = this.#rows.get(key);
    if (row !== undefined)
      for (const selector of this.#index.selectorsOf(row.group))
        for (const policy of this.#bySelector.get(selector)?.values() ?? []) found.push(policy);
    if (this.#staged === 0) return { enforced: found, staged: [], replaced: NONE };
    return selecting(found, ({ model }) => {
      const staged = stagedKeyOf(model.key);
      return staged !== undefined && this.#policies.has(formatKey(staged));
    });
  }

  #setPolicy(key: KeyText, model: PolicyModel | undefined, dirty: Set<KeyText>): void {
    const before = this.#policies.get(key);
    const staged = before?.model ?? model;
    if (staged !== undefined && isStagedKey(staged.key)) {
      this.#staged += (model === undefined ? 0 : 1) - (before === undefined ? 0 : 1);
      // It takes the place of another, or ceases to.
      const other = this.#policies.get(formatKey(enforcedKeyOf(staged.key)));
      if (other !== undefined) for (const row of this.#index.rowsOf(other.selector)) dirty.add(row.key);
    }
    if (before !== undefined) {
      for (const row of this.#index.rowsOf(before.selector)) dirty.add(row.key);
      this.#policies.delete(key);
      this.#bySelector.get(before.selector)?.delete(key);
    }
    if (model !== undefined) {
      const selector = formatSelector(model.selects);
      this.#policies.set(key, { model, selector });
      const sharing = this.#bySelector.get(selector);
      if (sharing !== undefined) sharing.set(key, ranked(model));
      else {
        this.#bySelector.set(selector, new Map([[key, ranked(model)]]));
        this.#index.addSelector(selector, model.selects);
      }
      for (const row of this.#index.rowsOf(selector)) dirty.add(row.key);
    }
    if (before !== undefined && this.#bySelector.get(before.selector)?.size === 0) {
      this.#bySelector.delete(before.selector);
      this.#index.removeSelector(before.selector);
    }
  }
}

const NONE: ReadonlySet<never> = new Set();

/** `isReplaced`: a staged policy takes the place of the policy, or deletes it. */
export function selecting(found: readonly Ranked[], isReplaced: (policy: Ranked) => boolean): Selecting {
  const enforced: Ranked[] = [];
  const staged: Ranked[] = [];
  const replaced = new Set<Ranked>();
  for (const policy of found)
    if (policy.isStaged) staged.push(policy);
    else {
      enforced.push(policy);
      if (isReplaced(policy)) replaced.add(policy);
    }
  return { enforced, staged, replaced };
}

function localOf(row: Row | undefined): Row | undefined {
  return row !== undefined && (row.local.length > 0 || row.host !== undefined) ? row : undefined;
}
