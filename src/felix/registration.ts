/**
 * registration: what upstream's tools read of a cluster and of its nodes, written by the daemon: the singletons ClusterInformation and
 * KubeControllersConfiguration, and on the node's own Node its addresses with the length of their subnet. Where there is no Kubernetes, the
 * daemon creates that Node.
 *
 * Everything is only filled in: what somebody set stays, `datastoreReady` above all.
 * Upstream: libcalico-go/lib/clientv3/client.go (ensureClusterInformation), node/pkg/lifecycle/startup/startup.go.
 */
import type { Store } from "../datastore/store.ts";
import { StoreError } from "../datastore/store.ts";
import type { Clock } from "../host/clock.ts";
import type { Random } from "../host/random.ts";
import { backoffMs } from "../lib/backoff.ts";
import { equal } from "../lib/equal.ts";
import {
  CLUSTER_INFORMATION,
  type ClusterInformationSpec,
  datastoreReady,
  KUBE_CONTROLLERS_CONFIGURATION,
} from "../model/kinds/cluster.ts";
import { ADDRESS_ANNOTATIONS, nodeAddressesOf } from "../model/convert/node.ts";
import type { RowUpdate } from "../model/convert/rows.ts";
import { BUILT_IN_TIERS } from "../model/tier.ts";
import type { Resource } from "../model/resource.ts";
import { type Addr, FAMILIES, type Family, familyOf } from "../net/addr.ts";
import { isFailure } from "./failures.ts";
import type { Report } from "../lib/report.ts";

/** An address of one of the node's interfaces. */
export interface LocalAddress {
  readonly addr: Addr;
  readonly prefixLength: number;
}

export interface RegistrationOptions {
  readonly node: string;
  readonly version: string;
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  /** Throws KernelError. */
  readonly localAddresses: () => readonly LocalAddress[];
  readonly report: Report;
}

const RETRY = { baseMs: 500, maxMs: 30_000 } as const;
/** Kubernetes, routes by BGP, and last the datastore: Kubernetes' own. */
const CLUSTER_TYPE = ["k8s", "bgp", "kdd"] as const;
const STANDALONE_TYPE = ["bgp"] as const;

export class Registration {
  readonly #options: RegistrationOptions;
  /** This node's Node as it was last seen. */
  #self: Resource<"Node"> | undefined;
  #wake: () => void = () => {};
  #dirty = true;
  /** Names of the tiers that exist. */
  readonly #tiers = new Set<string>();
  #reported = "";

  constructor(options: RegistrationOptions) {
    this.#options = options;
  }

  observe(updates: readonly RowUpdate[]): void {
    for (const update of updates) {
      if (update.kind === "Tier") this.#observeTier(update.key.name, update.value !== undefined);
      if (update.kind !== "Node" || update.key.name !== this.#options.node) continue;
      const self = update.value?.own;
      const changed = !equal(nodeView(this.#self), nodeView(self));
      this.#self = self;
      if (changed) this.#dirty = true;
    }
    if (this.#dirty) this.#wake();
  }

  #observeTier(name: string, exists: boolean): void {
    if (exists) this.#tiers.add(name);
    else if (this.#tiers.delete(name) && BUILT_IN_TIERS.has(name)) this.#dirty = true;
  }

  /** Until the signal aborts; call when the datastore is in sync. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.#wake(), { once: true });
    await this.#retried("write ClusterInformation", () => this.#describeCluster(), signal);
    await this.#retried("write KubeControllersConfiguration", () => this.#describeControllers(), signal);
    while (!signal.aborted) {
      if (!this.#dirty) await new Promise<void>((resolve) => (this.#wake = resolve));
      this.#dirty = false;
      if (!signal.aborted) await this.#retried("create the built-in tiers", () => this.#createTiers(), signal);
      if (!signal.aborted) await this.#retried("write the addresses of this node", () => this.#describeNode(), signal);
    }
  }

  async #retried(what: string, work: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const { clock, random, report } = this.#options;
    for (let failures = 1; !signal.aborted; failures++) {
      try {
        return await work();
      } catch (error) {
        if (!isFailure(error)) throw error;
        const line = `cannot ${what}: will retry: ${error.message}`;
        if (line !== this.#reported && !(error instanceof StoreError && error.reason === "conflict"))
          report(`cannot ${what}: will retry`, { error: error.message });
        this.#reported = line;
      }
      await clock.sleep(backoffMs(RETRY, failures, random.fraction()), signal);
    }
  }

  async #describeCluster(): Promise<void> {
    const { store } = this.#options;
    const found = await store.get(CLUSTER_INFORMATION);
    if (found === undefined) {
      await createUnlessThere(
        store.create("ClusterInformation", {
          apiVersion: "projectcalico.org/v3",
          kind: "ClusterInformation",
          metadata: { name: CLUSTER_INFORMATION.name },
          spec: this.#completed({}),
        }),
      );
      return;
    }
    if (!datastoreReady(found)) return;
    const spec = this.#completed(found.spec ?? {});
    if (!equal(spec, found.spec)) await store.update("ClusterInformation", { ...found, spec });
  }

  #completed(spec: ClusterInformationSpec): ClusterInformationSpec {
    const { random, version, store } = this.#options;
    const own = store.isStandalone ? STANDALONE_TYPE : CLUSTER_TYPE;
    const words = (spec.clusterType ?? "").split(",").filter((word) => word !== "");
    return {
      ...spec,
      clusterGUID: spec.clusterGUID || random.uuid().replaceAll("-", ""),
      clusterType: [...words, ...own.filter((word) => !words.includes(word))].join(","),
      calicoVersion: version,
      datastoreReady: spec.datastoreReady ?? true,
    };
  }

  /** Upstream's defaults are for controllers that do not run here: an object that enables none says so. */
  async #describeControllers(): Promise<void> {
    const { store } = this.#options;
    if ((await store.get(KUBE_CONTROLLERS_CONFIGURATION)) !== undefined) return;
    await createUnlessThere(
      store.create("KubeControllersConfiguration", {
        apiVersion: "projectcalico.org/v3",
        kind: "KubeControllersConfiguration",
        metadata: { name: KUBE_CONTROLLERS_CONFIGURATION.name },
        spec: { controllers: {} },
      }),
    );
  }

  /** They are there in any case; their objects are for whoever lists tiers. */
  async #createTiers(): Promise<void> {
    for (const { name, order, otherwise } of BUILT_IN_TIERS.values()) {
      if (this.#tiers.has(name)) continue;
      await createUnlessThere(
        this.#options.store.create("Tier", {
          apiVersion: "projectcalico.org/v3",
          kind: "Tier",
          metadata: { name },
          spec: { order, defaultAction: otherwise === "pass" ? "Pass" : "Deny" },
        }),
      );
    }
  }

  async #describeNode(): Promise<void> {
    const { store, localAddresses, node } = this.#options;
    const self = this.#self;
    if (self === undefined && store.isStandalone) {
      const created: Resource<"Node"> = { apiVersion: "v1", kind: "Node", metadata: { name: node } };
      await createUnlessThere(store.create("Node", created));
    }
    // Also one that was just created: the watch brings it.
    if (self === undefined) return;
    const missing = missingAddresses(self, localAddresses());
    if (Object.keys(missing).length > 0)
      await store.annotate({ kind: "Node", namespace: undefined, name: node }, missing);
  }
}

/**
 * The address annotations that a Node lacks: of each family the address by which other nodes reach it, with the length that its interface
 * has. One that names an address of an interface stays; one whose address is gone is replaced.
 */
export function missingAddresses(
  node: Resource<"Node">,
  local: readonly LocalAddress[],
): Readonly<Record<string, string>> {
  const missing: Record<string, string> = {};
  const stated = nodeAddressesOf(node);
  const reported = nodeAddressesOf({ ...node, metadata: { ...node.metadata, annotations: {} } });
  for (const family of FAMILIES) {
    const found = localOf(pick(stated, family), local) ?? localOf(pick(reported, family), local);
    const text = found === undefined ? undefined : `${found.addr}/${found.prefixLength}`;
    if (text !== undefined && node.metadata.annotations?.[ADDRESS_ANNOTATIONS[family]] !== text)
      missing[ADDRESS_ANNOTATIONS[family]] = text;
  }
  return missing;
}

function pick(
  addresses: { readonly ipv4: Addr | undefined; readonly ipv6: Addr | undefined },
  family: Family,
): Addr | undefined {
  return family === 4 ? addresses.ipv4 : addresses.ipv6;
}

function localOf(addr: Addr | undefined, local: readonly LocalAddress[]): LocalAddress | undefined {
  return addr === undefined
    ? undefined
    : local.find((each) => each.addr === addr && familyOf(each.addr) === familyOf(addr));
}

function nodeView(node: Resource<"Node"> | undefined): unknown {
  return node === undefined ? undefined : [node.metadata.annotations, node.status?.addresses];
}

async function createUnlessThere(created: Promise<unknown>): Promise<void> {
  try {
    await created;
  } catch (error) {
    if (!(error instanceof StoreError) || error.reason !== "exists") throw error;
  }
}
