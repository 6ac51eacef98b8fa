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
import {
  type AddressRule,
  type AddressRules,
  detectAddress,
  type LocalAddress,
  type LocalNetwork,
} from "./address-detection.ts";
import { isFailure } from "./failures.ts";
import type { Report } from "../lib/report.ts";

export interface RegistrationOptions {
  readonly node: string;
  readonly version: string;
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  /** Throws KernelError. */
  readonly localNetwork: () => LocalNetwork;
  readonly addresses: AddressRules;
  readonly report: Report;
}

const RETRY = { baseMs: 500, maxMs: 30_000 } as const;
/** How often addresses are looked for again that are to be found among the interfaces. Upstream: AUTODETECT_POLL_INTERVAL. */
const DETECT_MS = 60_000;
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
  /** Which address was not found when it was last looked for. */
  #unfound = "";

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
      if (!this.#dirty) await this.#untilDue(signal);
      this.#dirty = false;
      if (!signal.aborted) await this.#retried("create the built-in tiers", () => this.#createTiers(), signal);
      if (!signal.aborted) await this.#retried("write the addresses of this node", () => this.#describeNode(), signal);
    }
  }

  /** Until something changed, or it is time to look for addresses again. */
  async #untilDue(signal: AbortSignal): Promise<void> {
    const changed = new Promise<void>((resolve) => (this.#wake = resolve));
    const { clock, addresses } = this.#options;
    if (this.#unfound === "" && !Object.values(addresses).some((rule) => rule.is === "detected")) return changed;
    const woken = new AbortController();
    await Promise.race([changed, clock.sleep(DETECT_MS, AbortSignal.any([signal, woken.signal]))]);
    woken.abort();
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
    const { store, localNetwork, node, report } = this.#options;
    const self = this.#self;
    if (self === undefined && store.isStandalone) {
      const created: Resource<"Node"> = { apiVersion: "v1", kind: "Node", metadata: { name: node } };
      await createUnlessThere(store.create("Node", created));
    }
    // Also one that was just created: the watch brings it.
    if (self === undefined) return;
    const addresses = rulesFor(store.isStandalone, this.#options.addresses, self);
    const { missing, unfound } = missingAddresses(self, localNetwork(), addresses);
    const line = unfound.join("; ");
    if (line !== this.#unfound && line !== "") report("cannot tell how other nodes reach this one", { reason: line });
    this.#unfound = line;
    if (Object.keys(missing).length > 0)
      await store.annotate({ kind: "Node", namespace: undefined, name: node }, missing);
  }
}

/** Where nobody else says an address: the first IPv4 address that is found, as upstream has it. */
function rulesFor(isStandalone: boolean, rules: AddressRules, self: Resource<"Node">): AddressRules {
  if (!isStandalone || rules[4] !== undefined || nodeAddressesOf(self).ipv4 !== undefined) return rules;
  return { ...rules, 4: { is: "detected", method: { by: "first-found" } } };
}

/**
 * The address annotations that a Node lacks (null: it has one too many): of each family the address by which other nodes reach it, with the length
 * that its interface has. Without a rule one that names an address of an interface stays, and one whose address is gone is replaced.
 * `unfound`: what a rule asks for and is not there, in words; the Node keeps what it has.
 */
export function missingAddresses(
  node: Resource<"Node">,
  network: LocalNetwork,
  rules: AddressRules = {},
): { readonly missing: Readonly<Record<string, string | null>>; readonly unfound: readonly string[] } {
  const missing: Record<string, string | null> = {};
  const unfound: string[] = [];
  const stated = nodeAddressesOf(node);
  const reported = nodeAddressesOf({ ...node, metadata: { ...node.metadata, annotations: {} } });
  const text = ({ addr, prefixLength }: Subnet): string => `${addr}/${prefixLength}`;
  for (const family of FAMILIES) {
    const rule = rules[family];
    const name = ADDRESS_ANNOTATIONS[family];
    const before = node.metadata.annotations?.[name];
    if (rule?.is === "none") {
      if (before !== undefined) missing[name] = null;
      continue;
    }
    const found =
      rule === undefined
        ? (localOf(pick(stated, family), network) ?? localOf(pick(reported, family), network))
        : rule.is === "given"
          ? givenAddress(rule, network)
          : detectAddress(rule.method, family, network, pick(reported, family));
    if (found === undefined && rule?.is === "detected")
      unfound.push(`no IPv${family} address is found by ${rule.method.by}`);
    if (found !== undefined && before !== text(found)) missing[name] = text(found);
  }
  return { missing, unfound };
}

type Subnet = Pick<LocalAddress, "addr" | "prefixLength">;

/** One without a length has that of its interface, or is a subnet of its own. */
function givenAddress({ addr, prefixLength }: Extract<AddressRule, { is: "given" }>, network: LocalNetwork): Subnet {
  const own = localOf(addr, network)?.prefixLength ?? (familyOf(addr) === 4 ? 32 : 128);
  return { addr, prefixLength: prefixLength ?? own };
}

function pick(
  addresses: { readonly ipv4: Addr | undefined; readonly ipv6: Addr | undefined },
  family: Family,
): Addr | undefined {
  return family === 4 ? addresses.ipv4 : addresses.ipv6;
}

function localOf(addr: Addr | undefined, { addresses }: LocalNetwork): LocalAddress | undefined {
  return addr === undefined ? undefined : addresses.find((each) => each.addr === addr);
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
