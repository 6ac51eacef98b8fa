/** syncer-bench: a syncer on a store in memory, and a consumer that keeps what it delivers, for the tests of the syncer. */
import { chance } from "../lib/chance.ts";
import { VirtualClock } from "../lib/virtual-clock.ts";
import type { Kind } from "../model/kind.ts";
import { formatKey } from "../model/key.ts";
import type { Resource } from "../model/resource.ts";
import type { SyncEvent, Update } from "../model/update.ts";
import { MemoryStore } from "./memory.ts";
import type { ReducedLists } from "./reduced-lists.ts";
import { type MissingKind, startSyncer, type Syncer } from "./syncer.ts";

export function pool(name: string, labels: Record<string, string> = {}): Resource<"IPPool"> {
  return {
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name, labels },
    spec: { cidr: "10.0.0.0/16" },
  };
}

export function namespace(name: string): Resource<"Namespace"> {
  return { apiVersion: "v1", kind: "Namespace", metadata: { name } };
}

export function staged(name: string): Resource<"StagedNetworkPolicy"> {
  return {
    apiVersion: "projectcalico.org/v3",
    kind: "StagedNetworkPolicy",
    metadata: { name, namespace: "n" },
    spec: { stagedAction: "Set" },
  };
}

export const KEY = { kind: "Namespace", namespace: undefined, name: "n" } as const;

/** A consumer that keeps what was delivered. */
class View {
  readonly objects = new Map<string, string>();
  readonly log: string[] = [];
  gate: Promise<void> | undefined;
  readonly sink = async (event: SyncEvent): Promise<void> => {
    if (event.type === "status") this.log.push(event.status);
    else {
      this.log.push(
        event.updates.map((update) => `${update.value === undefined ? "-" : "+"}${update.key.name}`).join(" "),
      );
      for (const update of event.updates) {
        if (update.value === undefined) this.objects.delete(formatKey(update.key));
        else this.objects.set(formatKey(update.key), JSON.stringify(update.value));
      }
    }
    await this.gate;
  };
}

interface Bench {
  readonly store: MemoryStore;
  readonly clock: VirtualClock;
  readonly view: View;
  readonly errors: string[];
  readonly syncer: Syncer;
}

export function start(
  options: {
    store?: MemoryStore;
    kinds?: readonly Kind[];
    reduce?: (update: Update) => Update;
    sink?: (view: View) => (event: SyncEvent) => Promise<void>;
    role?: string;
    onMissing?: (missing: MissingKind) => void;
    lists?: ReducedLists<Update>;
  } = {},
): Bench {
  const store = options.store ?? new MemoryStore();
  const clock = new VirtualClock();
  const view = new View();
  const errors: string[] = [];
  const fraction = chance(7);
  const syncer = startSyncer({
    store,
    kinds: options.kinds ?? ["IPPool", "Namespace"],
    clock,
    random: { fraction, uuid: () => "" },
    reduce: options.reduce ?? ((update) => update),
    sink: options.sink?.(view) ?? view.sink,
    log: (message) => errors.push(message),
    lists: options.lists,
    ...(options.role === undefined ? {} : { role: options.role }),
    ...(options.onMissing === undefined ? {} : { onMissing: options.onMissing }),
  });
  return { store, clock, view, errors, syncer };
}

export async function storeState(store: MemoryStore, kinds: readonly Kind[]): Promise<Map<string, string>> {
  const state = new Map<string, string>();
  for (const kind of kinds) {
    for (const object of (await store.list(kind)).items)
      state.set(
        formatKey({ kind, namespace: object.metadata.namespace, name: object.metadata.name }),
        JSON.stringify(object),
      );
  }
  return state;
}

export const sorted = (map: ReadonlyMap<string, string>): string[] =>
  [...map].map(([key, value]) => `${key} ${value}`).sort();

/** A store whose `get` returns the state at the time of the call, once the gate opens. */
export function slowlyRead(store: MemoryStore, gate: Promise<void>): MemoryStore {
  const { get } = store;
  store.get = async (...args) => {
    const answer = await get.apply(store, args as never);
    await gate;
    return answer as never;
  };
  return store;
}
