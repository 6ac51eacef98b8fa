/**
 * Parents: the namespaces and service accounts whose labels endpoints inherit. Labels are not copied into the endpoints: these refer to
 * their parents, and a relabelled parent is told as such, so that only selectors that mention the label need work.
 */
import { inheritedLabels, type ProfileLabels } from "../model/convert/profile.ts";
import type { KeyText } from "../model/key.ts";
import type { NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX } from "../model/labels.ts";

/** Known, or only referred to: then it has just its name. One object for its whole life; `labels` is replaced, prefix included. */
export interface Parent {
  readonly id: KeyText;
  readonly prefix: typeof NAMESPACE_PREFIX | typeof SERVICE_ACCOUNT_PREFIX;
  labels: ProfileLabels;
  /** Groups that refer to it; forgotten at none, unless its object exists. */
  uses: number;
  exists: boolean;
}

export class Parents {
  readonly #parents = new Map<KeyText, Parent>();

  get size(): number {
    return this.#parents.size;
  }

  of(id: KeyText, prefix: Parent["prefix"]): Parent {
    const known = this.#parents.get(id);
    if (known !== undefined) return known;
    const parent = { id, prefix, labels: inheritedLabels(prefix, nameOf(id), undefined), uses: 0, exists: false };
    this.#parents.set(id, parent);
    return parent;
  }

  /** undefined: its object is gone. Answers the names of the labels that changed. */
  relabel(parent: Parent, labels: ProfileLabels | undefined): ReadonlySet<string> {
    const before = parent.labels;
    const now = labels ?? inheritedLabels(parent.prefix, nameOf(parent.id), undefined);
    parent.labels = now;
    parent.exists = labels !== undefined;
    return new Set([...before.keys(), ...now.keys()].filter((label) => before.get(label) !== now.get(label)));
  }

  /** Forgets a parent that nobody refers to and that does not exist. */
  tidy(parent: Parent): void {
    if (parent.uses === 0 && !parent.exists) this.#parents.delete(parent.id);
  }
}

function nameOf(id: KeyText): string {
  return id.slice(id.lastIndexOf("/") + 1);
}
