/** watch: a live copy of one collection of the API: lists, then watches, indefinitely. */
import type { Kind } from "../../src/model/kind.ts";
import { formatKey } from "../../src/model/key.ts";
import type { Resource } from "../../src/model/resource.ts";
import { startSyncer, type Syncer } from "../../src/datastore/syncer.ts";
import type { Store } from "../../src/datastore/store.ts";
import type { Host } from "../../src/host/host.ts";

export class Mirror {
  readonly #objects = new Map<string, { kind: Kind; value: Resource }>();
  readonly #syncer: Syncer;
  inSync = false;

  constructor(store: Store, host: Host, kinds: readonly Kind[], changed: () => void) {
    this.#syncer = startSyncer({
      store,
      kinds,
      clock: host.clock,
      random: host.random,
      reduce: (update) => update,
      log: () => {},
      sink: (event) => {
        if (event.type === "status") this.inSync ||= event.status === "in-sync";
        else
          for (const update of event.updates) {
            if (update.value === undefined) this.#objects.delete(formatKey(update.key));
            else this.#objects.set(formatKey(update.key), { kind: update.kind, value: update.value });
          }
        changed();
      },
    });
  }

  all<K extends Kind>(kind: K): Resource<K>[] {
    const values: Resource<K>[] = [];
    for (const entry of this.#objects.values()) if (entry.kind === kind) values.push(entry.value as Resource<K>);
    return values;
  }

  stop(): Promise<void> {
    return this.#syncer.stop();
  }
}
