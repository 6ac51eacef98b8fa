/**
 * policy-versions: which generation of each policy the node has seen, and up to which resourceVersion it has seen the policies of a kind.
 *
 * An update of the generation that is known says nothing to the calculation: only labels, annotations or the status are new. So the
 * conditions that a controller writes cost a node nothing.
 */
import type { RowUpdate } from "../model/convert/rows.ts";
import type { KeyText } from "../model/key.ts";
import type { ReportedKind } from "../model/kinds/node-policy-status.ts";
import { hasReached, type Revision, revisionOf } from "../model/revision.ts";

interface Version {
  readonly uid: string | undefined;
  readonly generation: number | undefined;
}

export class PolicyVersions {
  readonly #versions = new Map<KeyText, Version>();
  readonly #observed = new Map<ReportedKind, Revision>();
  /** Number of updates so far that changed what a policy says. */
  news = 0;
  /** Number of updates of policies so far. */
  updates = 0;

  /** The updates without those that leave a policy as it was. */
  take(updates: readonly RowUpdate[]): readonly RowUpdate[] {
    return updates.filter((update) => this.#isNews(update));
  }

  /** The newest resourceVersion of each kind. */
  get observed(): ReadonlyMap<ReportedKind, Revision> {
    return this.#observed;
  }

  /** -1 where the datastore counts none. */
  generationOf(policy: KeyText): number {
    return this.#versions.get(policy)?.generation ?? -1;
  }

  #isNews(update: RowUpdate): boolean {
    const { kind, id, origin } = update;
    switch (kind) {
      case "NetworkPolicy":
      case "GlobalNetworkPolicy":
      case "ClusterNetworkPolicy":
      case "AdminNetworkPolicy":
      case "BaselineAdminNetworkPolicy":
        break;
      default:
        return true;
    }
    this.updates++;
    const revision = revisionOf(origin.revision);
    if (!hasReached(this.#observed.get(kind), revision)) this.#observed.set(kind, revision);
    const before = this.#versions.get(id);
    const { uid } = update.value?.metadata ?? {};
    const { generation } = origin;
    if (update.value === undefined) this.#versions.delete(id);
    else if (before !== undefined && before.generation === generation && before.uid === uid && generation !== undefined)
      return false;
    else this.#versions.set(id, { uid, generation });
    this.news++;
    return true;
  }
}
