/**
 * Rows: converts each object to what is kept of it, the moment it arrives from the datastore. No object of the API is kept, except the few
 * that are needed whole: the settings of the cluster, and this node's own Node.
 */
import { type FieldError } from "../schema/field-error.ts";
import type { ParseError, Result } from "../../lib/result.ts";
import type { Prefix } from "../../net/prefix.ts";
import type { EndpointRow } from "../endpoint.ts";
import { formatKey, type Key, type KeyText } from "../key.ts";
import type { Kind } from "../kind.ts";
import type { PolicyModel } from "../policy.ts";
import type { TierModel } from "../tier.ts";
import type { ObjectMeta, Resource } from "../resource.ts";
import type { Origin, Update } from "../update.ts";
import { type BlockRow, blockRowOf } from "./block.ts";
import { type NamespaceRow, namespaceRowOf } from "./namespace.ts";
import { policyOfNetworkPolicy } from "./network-policy.ts";
import { type NodeAddresses, nodeAddressesOf } from "./node.ts";
import { policyOfCalicoNetworkPolicy, policyOfGlobalNetworkPolicy } from "./calico-policy.ts";
import { type EndpointSliceRow, endpointSliceOf } from "./endpoint-slice.ts";
import { type FelixRow, felixRowOf } from "./felix-configuration.ts";
import { policyOfAdminNetworkPolicy, policyOfBaselineAdminNetworkPolicy } from "./admin-network-policy.ts";
import { policyOfClusterNetworkPolicy } from "./cluster-network-policy.ts";
import { hostEndpointOf } from "./host-endpoint.ts";
import { networkSetOf } from "./network-set.ts";
import { endpointOfPod } from "./pod.ts";
import { type PoolRow, poolRowOf } from "./pool.ts";
import { type ProfileRow, profileRowOf } from "./profile.ts";
import { type ServiceAccountRow, serviceAccountRowOf } from "./service-account.ts";
import { Shapes } from "./shapes.ts";
import {
  policyOfStagedGlobalNetworkPolicy,
  policyOfStagedKubernetesNetworkPolicy,
  policyOfStagedNetworkPolicy,
} from "./staged-policy.ts";
import { tierOf } from "./tier.ts";
import { endpointOfWorkload } from "./workload-endpoint.ts";

export interface PodRow {
  readonly endpoint: Result<EndpointRow, ParseError>;
  /** What ADD needs to know, for a pod that is or may be scheduled to this node. */
  readonly here: { readonly uid: string; readonly revision: string; readonly annotations: Annotations } | undefined;
}

export interface NodeRow {
  readonly addresses: NodeAddresses;
  /** The labels by which pools select it. */
  readonly labels: Readonly<Record<string, string>>;
  /** The whole Node, if it is this node. */
  readonly own: Resource<"Node"> | undefined;
}

export interface PoolObject {
  readonly row: Result<PoolRow, FieldError>;
  readonly object: Resource<"IPPool">;
}

/** Whole, for what it says about settings that have no effect. */
export interface FelixObject extends FelixRow {
  readonly object: Resource<"FelixConfiguration">;
}

type Annotations = Readonly<Record<string, string>>;

export interface PolicyRow {
  readonly model: PolicyModel;
  /** Of the object, as far as an Event about it needs it. */
  readonly metadata: ObjectMeta;
}

/** Its object is kept for what it says about settings that have no effect, on its own node. */
export interface MachineRow {
  readonly endpoint: Result<EndpointRow, ParseError>;
  readonly own: Resource<"WorkloadEndpoint"> | undefined;
}

/** A policy that is evaluated and never enforced. */
export interface StagedRow {
  /** undefined: it says nothing. */
  readonly model: PolicyModel | undefined;
}

interface Reduced {
  StagedNetworkPolicy: StagedRow;
  StagedGlobalNetworkPolicy: StagedRow;
  StagedKubernetesNetworkPolicy: StagedRow;
  KubernetesNetworkPolicy: PolicyRow;
  NetworkPolicy: PolicyRow;
  GlobalNetworkPolicy: PolicyRow;
  ClusterNetworkPolicy: PolicyRow;
  AdminNetworkPolicy: PolicyRow;
  BaselineAdminNetworkPolicy: PolicyRow;
  Tier: TierModel;
  FelixConfiguration: FelixObject;
  HostEndpoint: Result<EndpointRow, ParseError>;
  WorkloadEndpoint: MachineRow;
  EndpointSlice: EndpointSliceRow;
  NetworkSet: Result<EndpointRow, ParseError>;
  GlobalNetworkSet: Result<EndpointRow, ParseError>;
  Profile: ProfileRow;
  Pod: PodRow;
  Namespace: NamespaceRow;
  ServiceAccount: ServiceAccountRow;
  Node: NodeRow;
  IPAMBlock: Result<BlockRow, FieldError>;
  IPPool: PoolObject;
}

/** What is kept of an object of the kind. */
export type Row<K extends Kind> = K extends keyof Reduced ? Reduced[K] : Resource<K>;

/** An `Update` with its row in place of the object. */
export type RowUpdate<K extends Kind = Kind> = K extends Kind
  ? {
      readonly kind: K;
      readonly key: Key<K>;
      /** The text of the key. */
      readonly id: KeyText;
      readonly value: Row<K> | undefined;
      readonly origin: Origin;
    }
  : never;

/** Returns the conversion for the node of that name. */
export function rowsFor(node: string): (update: Update, id?: KeyText) => RowUpdate {
  const shapes = new Shapes();
  const nets = new Map<KeyText, readonly Prefix[]>();
  return (update, id = formatKey(update.key)) => {
    switch (update.kind) {
      case "Pod":
        return {
          kind: update.kind,
          key: update.key,
          id,
          value: update.value && podRowOf(update.value, node, shapes),
          origin: update.origin,
        };
      case "KubernetesNetworkPolicy":
        return { ...update, id, value: update.value && policyRowOf(update.value, policyOfNetworkPolicy(update.value)) };
      case "NetworkPolicy":
        return {
          ...update,
          id,
          value: update.value && policyRowOf(update.value, policyOfCalicoNetworkPolicy(update.value)),
        };
      case "GlobalNetworkPolicy":
        return {
          ...update,
          id,
          value: update.value && policyRowOf(update.value, policyOfGlobalNetworkPolicy(update.value)),
        };
      case "ClusterNetworkPolicy":
        return {
          ...update,
          id,
          value: update.value && policyRowOf(update.value, policyOfClusterNetworkPolicy(update.value)),
        };
      case "AdminNetworkPolicy":
        return {
          ...update,
          id,
          value: update.value && policyRowOf(update.value, policyOfAdminNetworkPolicy(update.value)),
        };
      case "BaselineAdminNetworkPolicy":
        return {
          ...update,
          id,
          value: update.value && policyRowOf(update.value, policyOfBaselineAdminNetworkPolicy(update.value)),
        };
      case "StagedNetworkPolicy":
        return { ...update, id, value: update.value && { model: policyOfStagedNetworkPolicy(update.value) } };
      case "StagedGlobalNetworkPolicy":
        return { ...update, id, value: update.value && { model: policyOfStagedGlobalNetworkPolicy(update.value) } };
      case "StagedKubernetesNetworkPolicy":
        return { ...update, id, value: update.value && { model: policyOfStagedKubernetesNetworkPolicy(update.value) } };
      case "NetworkSet":
      case "GlobalNetworkSet": {
        const value = update.value && networkSetOf(update.kind, update.value, nets.get(id));
        if (value?.ok === true && value.value.nets !== undefined) nets.set(id, value.value.nets);
        else nets.delete(id);
        return { ...update, id, value };
      }
      case "EndpointSlice":
        return { ...update, id, value: update.value && endpointSliceOf(update.value) };
      case "HostEndpoint":
        return { ...update, id, value: update.value && hostEndpointOf(update.value) };
      case "WorkloadEndpoint":
        return { ...update, id, value: update.value && machineRowOf(update.value, node) };
      case "FelixConfiguration":
        return { ...update, id, value: update.value && { ...felixRowOf(update.value), object: update.value } };
      case "Profile":
        return { ...update, id, value: update.value && profileRowOf(update.value) };
      case "Tier":
        return { ...update, id, value: update.value && tierOf(update.value) };
      case "Namespace":
        return { ...update, id, value: update.value && namespaceRowOf(update.value) };
      case "ServiceAccount":
        return { ...update, id, value: update.value && serviceAccountRowOf(update.value) };
      case "Node":
        return { ...update, id, value: update.value && nodeRowOf(update.value, node) };
      case "IPAMBlock":
        return { ...update, id, value: update.value && blockRowOf(update.value, node) };
      case "IPPool":
        return { ...update, id, value: update.value && { row: poolRowOf(update.value), object: update.value } };
      default:
        return { ...update, id };
    }
  };
}

/** The whole object, where it is kept. */
export function objectOf(update: RowUpdate): Resource | undefined {
  switch (update.kind) {
    case "Pod":
    case "KubernetesNetworkPolicy":
    case "NetworkPolicy":
    case "GlobalNetworkPolicy":
    case "ClusterNetworkPolicy":
    case "AdminNetworkPolicy":
    case "BaselineAdminNetworkPolicy":
    case "StagedNetworkPolicy":
    case "StagedGlobalNetworkPolicy":
    case "StagedKubernetesNetworkPolicy":
    case "Tier":
    case "HostEndpoint":
    case "EndpointSlice":
    case "Profile":
    case "NetworkSet":
    case "GlobalNetworkSet":
    case "Namespace":
    case "ServiceAccount":
    case "IPAMBlock":
      return undefined;
    case "Node":
    case "WorkloadEndpoint":
      return update.value?.own;
    case "IPPool":
    case "FelixConfiguration":
      return update.value?.object;
    default:
      return update.value;
  }
}

function podRowOf(pod: Resource<"Pod">, node: string, shapes: Shapes): PodRow {
  const { uid = "", resourceVersion: revision = "", annotations = {} } = pod.metadata;
  const where = pod.spec?.nodeName || undefined;
  return {
    endpoint: endpointOfPod(pod, shapes),
    here: where === undefined || where === node ? { uid, revision, annotations } : undefined,
  };
}

function policyRowOf(policy: { readonly metadata: ObjectMeta }, model: PolicyModel): PolicyRow {
  const { name, uid, resourceVersion } = policy.metadata;
  const metadata = {
    name,
    ...(uid === undefined ? {} : { uid }),
    ...(resourceVersion === undefined ? {} : { resourceVersion }),
  };
  return { model, metadata };
}

function machineRowOf(object: Resource<"WorkloadEndpoint">, node: string): MachineRow {
  return { endpoint: endpointOfWorkload(object), own: object.spec?.node === node ? object : undefined };
}

function nodeRowOf(object: Resource<"Node">, node: string): NodeRow {
  const { name, labels = {} } = object.metadata;
  return { addresses: nodeAddressesOf(object), labels, own: name === node ? object : undefined };
}
