/** Matches: which policies select which of this node's endpoints, and which endpoints must therefore be recomputed. */
import { formatKey, type KeyText } from "../model/key.ts";
import { enforcedKeyOf, isStagedKey, stagedKeyOf } from "../model/kinds/staged.ts";
import type { PolicyModel } from "../model/policy.ts";
import { formatSelector } from "../model/selector/canonical.ts";
import type { Delta } from "../program/program.ts";
import type { EndpointsDelta, Row, RowChange } from "./endpoints.ts";
import { SelectorIndex } from "./selector-index.ts";

/** The policies that select a row. */
export interface Selecting {
  readonly enforced: readonly PolicyModel[];
  readonly staged: readonly PolicyModel[];
  /** Those of the enforced ones that would be gone were the staged policies enforced. */
  readonly replaced: ReadonlySet<PolicyModel>;
}

export class Matches {
  /** Holds only rows with endpoints on this node, and the `selects` of every policy. */
  readonly #index = new SelectorIndex();
  readonly #rows = new Map<KeyText, Row>();
  readonly #policies = new Map<KeyText, { readonly model: PolicyModel; readonly selector: string }>();
  /** How many of them are staged. */
  #staged = 0;
  /** Policies that select by the same text. */
  readonly #bySelector = new Map<string, Set<KeyText>>();

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
    const found: PolicyModel[] = [];
    const row = this.#rows.get(key);
    for (const selector of row === undefined ? [] : this.#index.selectorsOf(row.group))
      for (const policy of this.#bySelector.get(selector) ?? []) {
        const model = this.#policies.get(policy)?.model;
        if (model !== undefined) found.push(model);
      }
    return selecting(found, ({ key: policy }) => {
      const staged = this.#staged === 0 ? undefined : stagedKeyOf(policy);
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
      if (sharing !== undefined) sharing.add(key);
      else {
        this.#bySelector.set(selector, new Set([key]));
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

/** `isReplaced`: a staged policy takes the place of the policy, or deletes it. */
export function selecting(found: readonly PolicyModel[], isReplaced: (policy: PolicyModel) => boolean): Selecting {
  const enforced: PolicyModel[] = [];
  const staged: PolicyModel[] = [];
  const replaced = new Set<PolicyModel>();
  for (const model of found)
    if (isStagedKey(model.key)) staged.push(model);
    else {
      enforced.push(model);
      if (isReplaced(model)) replaced.add(model);
    }
  return { enforced, staged, replaced };
}

function localOf(row: Row | undefined): Row | undefined {
  return row !== undefined && (row.local.length > 0 || row.host !== undefined) ? row : undefined;
}
