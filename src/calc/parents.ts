/**
 * Parents: the namespaces, service accounts and profiles whose labels endpoints inherit. Endpoints refer to their parents instead of copying labels,
 * and a relabelled parent is a change of its own, so that only selectors that mention the label need work.
 */
import { inheritedLabels, type ProfileLabels } from "../model/convert/profile.ts";
import type { KeyText } from "../model/key.ts";
import type { NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX } from "../model/labels.ts";

/** Known, or only referred to: then its name is its one label, and a profile has none. Mutable: `labels` is replaced, with names that include the prefix. */
export interface Parent {
  readonly id: KeyText;
  /** Empty for a profile. */
  readonly prefix: typeof NAMESPACE_PREFIX | typeof SERVICE_ACCOUNT_PREFIX | "";
  labels: ProfileLabels;
  /** Groups that refer to it; at zero it is dropped, unless its object exists. */
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
    const parent = { id, prefix, labels: labelsUnknown(id, prefix), uses: 0, exists: false };
    this.#parents.set(id, parent);
    return parent;
  }

  /** Whether its object does. */
  exists(id: KeyText): boolean {
    return this.#parents.get(id)?.exists === true;
  }

  /** undefined: its object is gone. Returns the names of the labels that changed. */
  relabel(parent: Parent, labels: ProfileLabels | undefined): ReadonlySet<string> {
    const before = parent.labels;
    const now = labels ?? labelsUnknown(parent.id, parent.prefix);
    parent.labels = now;
    parent.exists = labels !== undefined;
    return new Set([...before.keys(), ...now.keys()].filter((label) => before.get(label) !== now.get(label)));
  }

  /** Drops a parent that has no object and that no group refers to. */
  tidy(parent: Parent): void {
    if (parent.uses === 0 && !parent.exists) this.#parents.delete(parent.id);
  }
}

/** What is inherited from an object that does not exist. */
function labelsUnknown(id: KeyText, prefix: Parent["prefix"]): ProfileLabels {
  return prefix === "" ? new Map() : inheritedLabels(prefix, nameOf(id), undefined);
}

function nameOf(id: KeyText): string {
  return id.slice(id.lastIndexOf("/") + 1);
}
