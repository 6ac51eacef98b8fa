/** Endpoint: a pod, WorkloadEndpoint, host endpoint or network set as policy sees it: labels, addresses and named ports, whatever the API calls them. */
import type { Addr } from "../net/addr.ts";
import type { Prefix } from "../net/prefix.ts";
import type { Protocol } from "../net/protocol.ts";
import type { Key } from "./key.ts";

export interface NamedPort {
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
}

/** What policy needs of an object that has addresses and labels. */
export interface EndpointRow {
  readonly uid: string | undefined;
  /** undefined until it is scheduled. */
  readonly node: string | undefined;
  /** undefined for objects of the cluster's scope. */
  readonly namespace: string | undefined;
  readonly serviceAccount: string | undefined;
  /** Without what is inherited from namespace and service account. */
  readonly labels: ReadonlyMap<string, string>;
  /** `live`: has, or will get, its own network. */
  readonly state: "live" | "finished" | "host-network";
  readonly addresses: readonly Addr[];
  /** The source of `addresses`. An annotated address counts only if a block records it for this endpoint. */
  readonly addressesFrom: "status" | "annotation";
  readonly ports: readonly NamedPort[];
  /** Of a network set; absent otherwise. */
  readonly nets?: readonly Prefix[];
  /** Of a host endpoint; absent otherwise. */
  readonly host?: HostInterface;
  /** Of a WorkloadEndpoint: its interface on its node; absent otherwise. */
  readonly device?: string;
  /** Names of the profiles that decide where no policy does, in order; absent: of a pod, which is open then, or a network set. */
  readonly profiles?: readonly string[];
  /** From which it may send besides its addresses, where the settings let workloads; absent: from none. */
  readonly sources?: readonly Prefix[];
  /** What of a network set, host endpoint or WorkloadEndpoint cannot be read, and has no effect; absent otherwise. */
  readonly problem?: string;
}

/** What a host endpoint protects. */
export interface HostInterface {
  /** Of the HostEndpoint. */
  readonly name: string;
  /** An interface, `*` for all that have no endpoint of their own; undefined: the one with an expected address. */
  readonly interface: string | undefined;
}

/** An interface of this node and the workload behind it. */
export interface Wire {
  readonly workload: WorkloadKey;
  /** The Pod's uid when it was wired. undefined: unknown, or no pod. */
  readonly uid?: string | undefined;
  readonly interface: string;
  readonly addresses: readonly Addr[];
}

export type WorkloadKey = Key<"Pod"> | Key<"WorkloadEndpoint">;

/** How a local pod is wired: written by CNI ADD, journalled on disk, removed by DEL. */
export interface CniRecord {
  readonly containerId: string;
  readonly pod: Key<"Pod">;
  /** The Pod's uid at ADD; a later Pod of the same name has another. undefined: unknown. */
  readonly uid?: string | undefined;
  /** Host end, `cali` + 11 hex digits. */
  readonly interface: string;
  readonly addresses: readonly Addr[];
  /** MAC of the pod's end, `aa:bb:cc:dd:ee:ff`. */
  readonly mac: string;
  /** Path of the pod's network namespace at ADD. */
  readonly netns: string;
  /** Interface name inside the pod, `eth0`. */
  readonly podInterface: string;
}
