/** Matches: which policies select which of this node's endpoints, and which endpoints must therefore be looked at again. */
import type { KeyText } from "../model/key.ts";
import type { PolicyModel } from "../model/policy.ts";
import { formatSelector } from "../model/selector/canonical.ts";
import type { Delta } from "../program/program.ts";
import type { EndpointsDelta, PodRow } from "./endpoints.ts";
import { SelectorIndex } from "./selector-index.ts";

export class Matches {
  /** Holds only rows with endpoints on this node, and the `selects` of every policy. */
  readonly #index = new SelectorIndex();
  readonly #policies = new Map<KeyText, { readonly model: PolicyModel; readonly selector: string }>();
  /** Policies that select by the same text. */
  readonly #bySelector = new Map<string, Set<KeyText>>();

  /** The local rows whose list of policies, or one of whose policies, changed, or which changed themselves. */
  step(endpoints: EndpointsDelta, policies: Delta<KeyText, PolicyModel>): ReadonlySet<KeyText> {
    const dirty = new Set<KeyText>();
    const rows = new Map<KeyText, PodRow | undefined>();
    for (const [key, row] of endpoints.rows) {
      const local = row !== undefined && row.local.length > 0 ? row : undefined;
      if (local === undefined && this.#index.row(key) === undefined) continue;
      rows.set(key, local);
      dirty.add(key);
    }
    for (const matched of this.#index.step({ rows, relabelled: endpoints.relabelled }).values())
      for (const key of matched.keys()) dirty.add(key);
    for (const [key, model] of policies) this.#setPolicy(key, model, dirty);
    return dirty;
  }

  row(key: KeyText): PodRow | undefined {
    return this.#index.row(key);
  }

  /** The policies that select the row, in no order. */
  policiesOf(key: KeyText): PolicyModel[] {
    return this.#index
      .selectorsOf(key)
      .flatMap((selector) =>
        [...(this.#bySelector.get(selector) ?? [])].flatMap((policy) => this.#policies.get(policy)?.model ?? []),
      );
  }

  #setPolicy(key: KeyText, model: PolicyModel | undefined, dirty: Set<KeyText>): void {
    const before = this.#policies.get(key);
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
