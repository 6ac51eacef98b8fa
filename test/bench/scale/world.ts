/** world: the scenario in the store, and the changes that the rest of the cluster makes to it while the bench measures. */
import { calicoPolicyOf, setOf, tiersOf } from "./calico.ts";
import { localPodObject, remotePodObject } from "./pods.ts";
import {
  activePeers,
  addressesOfNode,
  addressOfPod,
  APPS,
  blockObject,
  blockOfAddress,
  blocksPerNode,
  dotted,
  type Labelled,
  LOCAL_PODS,
  namespacesOf,
  nodeOfPod,
  nodesOf,
  type PodWeight,
  policyOf,
  type PolicyKinds,
  poolOf,
  REMOTE_NODES,
  remotePod,
  serviceAccountsOf,
  type Size,
} from "./scenario.ts";
import { ApiStore } from "./store.ts";
import { wallMs } from "./clock.ts";

/** A change of one member of a set: when it was told, and which address's element it adds. */
export interface MemberChange {
  readonly atMs: number;
  /** Hexadecimal digits of the address. */
  readonly key: string;
}

const CALICO = "projectcalico.org/v3";
/** Collection, apiVersion, kind. */
export const KINDS: readonly (readonly [string, string, string])[] = [
  ["pods", "v1", "Pod"],
  ["namespaces", "v1", "Namespace"],
  ["serviceaccounts", "v1", "ServiceAccount"],
  ["nodes", "v1", "Node"],
  ["events", "v1", "Event"],
  ["networkpolicies", "networking.k8s.io/v1", "NetworkPolicy"],
  ["ippools", CALICO, "IPPool"],
  ["ipamblocks", CALICO, "IPAMBlock"],
  ["blockaffinities", CALICO, "BlockAffinity"],
  ["ipamhandles", CALICO, "IPAMHandle"],
  ["clusterinformations", CALICO, "ClusterInformation"],
  ["nodepolicystatuses", CALICO, "NodePolicyStatus"],
  ["kubecontrollersconfigurations", CALICO, "KubeControllersConfiguration"],
  ["ipamconfigurations", CALICO, "IPAMConfiguration"],
  ["ipreservations", CALICO, "IPReservation"],
  ["tiers", CALICO, "Tier"],
  ["stagednetworkpolicies", CALICO, "StagedNetworkPolicy"],
  ["stagedglobalnetworkpolicies", CALICO, "StagedGlobalNetworkPolicy"],
  ["stagedkubernetesnetworkpolicies", CALICO, "StagedKubernetesNetworkPolicy"],
  ["networkpolicies.projectcalico.org", CALICO, "NetworkPolicy"],
  ["globalnetworkpolicies", CALICO, "GlobalNetworkPolicy"],
  ["networksets", CALICO, "NetworkSet"],
  ["globalnetworksets", CALICO, "GlobalNetworkSet"],
  ["hostendpoints", CALICO, "HostEndpoint"],
  ["felixconfigurations", CALICO, "FelixConfiguration"],
  ["clusternetworkpolicies", "policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"],
  ["endpointslices", "discovery.k8s.io/v1", "EndpointSlice"],
  ["workloadendpoints", CALICO, "WorkloadEndpoint"],
  ["profiles", CALICO, "Profile"],
  ["adminnetworkpolicies", "policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"],
  ["baselineadminnetworkpolicies", "policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy"],
];
/** Coprime to every number of pods: consecutive changes are on different nodes. */
const STRIDE = 7_919;

function keyOf({ namespace, name }: Labelled): string {
  return `${namespace}/${name}`;
}

export class World {
  readonly store = new ApiStore();
  readonly #size: Size;
  readonly #weight: PodWeight;
  readonly #peers: ReadonlySet<number>;
  /** Pods by address, and addresses by pod, of the remote nodes. */
  readonly #held = new Map<number, number>();
  readonly #addresses: number[] = [];
  /** By node; what was freed longest ago is taken first. */
  readonly #free: number[][] = [];
  /** Apps of pods that are not what they were at first. */
  readonly #apps = new Map<number, number>();
  #sequence = 1_000_000;
  #cursor = 0;

  constructor(size: Size, weight: PodWeight, kinds: PolicyKinds) {
    this.#size = size;
    this.#weight = weight;
    this.#peers = activePeers(size);
    const { store } = this;
    for (const [plural, apiVersion, kind] of KINDS) store.define(plural, apiVersion, kind);
    const put = (plural: string, objects: Iterable<object>): void => {
      for (const object of objects) store.put(plural, object);
    };
    put("namespaces", namespacesOf());
    put("serviceaccounts", serviceAccountsOf());
    put("nodes", nodesOf());
    put("ippools", [poolOf()]);
    if (kinds === "calico") {
      put("tiers", tiersOf());
      put("globalnetworksets", [setOf(0)]);
      for (let k = 0; k < size.policies; k++) store.put("globalnetworkpolicies", calicoPolicyOf(k));
    } else for (let k = 0; k < size.policies; k++) store.put("networkpolicies", policyOf(k));
    for (let i = 0; i < size.pods; i++) {
      const address = addressOfPod(size, i);
      this.#addresses.push(address);
      this.#held.set(address, i);
    }
    // Lists of a real API are in the order of keys.
    const keys = this.#addresses.map((address, i) => ({ address, i, key: keyOf(remotePod(i)) }));
    for (const { address, i } of keys.sort((a, b) => (a.key < b.key ? -1 : 1)))
      store.put("pods", remotePodObject(size, weight, i, address));
    for (let i = 0; i < LOCAL_PODS; i++) store.put("pods", localPodObject(weight, i));
    for (let node = 0; node < REMOTE_NODES; node++) {
      this.#free.push(addressesOfNode(size, node).filter((address) => !this.#held.has(address)));
      for (let index = 0; index < blocksPerNode(size); index++) this.#putBlock(node, index);
    }
    store.prepare();
  }

  /** One remote pod that is a member here gets another address of its node; with `blocks` its IPAMBlock says so too. */
  moveAddress(blocks: boolean): MemberChange {
    const pod = this.#nextMember();
    const node = nodeOfPod(this.#size, pod);
    const free = this.#free[node] ?? [];
    const before = this.#addresses[pod] ?? 0;
    const after = free.shift() ?? before;
    free.push(before);
    this.#held.delete(before);
    this.#held.set(after, pod);
    this.#addresses[pod] = after;
    if (blocks)
      for (const index of new Set([before, after].map((address) => blockOfAddress(this.#size, address).index)))
        this.#putBlock(node, index);
    return this.#putPod(pod);
  }

  /** One remote pod that is a member here gets the label that makes it a member of another set. */
  changeApp(): MemberChange {
    const pod = this.#nextMember();
    const peers = [...this.#peers];
    this.#apps.set(pod, peers[(peers.indexOf(this.#appOf(pod)) + 1) % peers.length] ?? 0);
    return this.#putPod(pod);
  }

  /** A block of another node is written with a new sequence number and nothing else. */
  touchBlock(): void {
    this.#putBlock(this.#cursor++ % REMOTE_NODES, 0);
  }

  /** Another node's kubelet tells that it lives. */
  touchNode(): void {
    const name = `remote-${this.#cursor++ % REMOTE_NODES}`;
    const text = this.store.get({ plural: "nodes", namespace: undefined, name }) ?? "{}";
    const now = new Date().toISOString();
    this.store.put(
      "nodes",
      JSON.parse(text.replace(/"lastHeartbeatTime":"[^"]*"/, `"lastHeartbeatTime":"${now}"`)) as object,
    );
  }

  #appOf(pod: number): number {
    return this.#apps.get(pod) ?? pod % APPS;
  }

  #nextMember(): number {
    for (;;) {
      const pod = (this.#cursor++ * STRIDE) % this.#size.pods;
      if (this.#peers.has(this.#appOf(pod))) return pod;
    }
  }

  #putPod(pod: number): MemberChange {
    const address = this.#addresses[pod] ?? 0;
    const text = JSON.stringify(remotePodObject(this.#size, this.#weight, pod, address));
    const object = JSON.parse(text.replace(`"app":"a${pod % APPS}"`, `"app":"a${this.#appOf(pod)}"`)) as object;
    const atMs = wallMs();
    this.store.put("pods", object);
    return { atMs, key: address.toString(16).padStart(8, "0") };
  }

  #putBlock(node: number, index: number): void {
    this.store.put("ipamblocks", blockObject(this.#size, node, index, this.#held, this.#sequence++));
  }

  /** The address, in text, of a pod whose app is that. */
  memberOf(app: number): string {
    for (let pod = 0; pod < this.#size.pods; pod++)
      if (this.#appOf(pod) === app) return dotted(this.#addresses[pod] ?? 0);
    throw new Error(`no pod has the app ${app}`);
  }
}
