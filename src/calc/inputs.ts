/**
 * Inputs: the updates since the last step, as rows, one pending change per key: last write wins, by the contract of `model/update.ts`.
 * An object that could not be read counts as absent, and the reason is a problem.
 */
import { assertNever } from "../lib/bug.ts";
import { formatParseError, type ParseError, type Result } from "../lib/result.ts";
import type { BlockRow } from "../model/convert/block.ts";
import type { EndpointSliceRow } from "../model/convert/endpoint-slice.ts";
import type { FelixRow } from "../model/convert/felix-configuration.ts";
import type { NamespaceRow } from "../model/convert/namespace.ts";
import type { NodeAddresses } from "../model/convert/node.ts";
import type { PoolRow } from "../model/convert/pool.ts";
import type { ProfileRow } from "../model/convert/profile.ts";
import type { RowUpdate } from "../model/convert/rows.ts";
import type { ServiceAccountRow } from "../model/convert/service-account.ts";
import type { CniRecord, EndpointRow } from "../model/endpoint.ts";
import type { KeyText } from "../model/key.ts";
import type { PolicyModel } from "../model/policy.ts";
import type { TierModel } from "../model/tier.ts";
import type { Addr } from "../net/addr.ts";
import { type FieldError, formatFieldError } from "../model/schema/field-error.ts";

type Pending<T> = Map<KeyText, T | undefined>;

export class Inputs {
  readonly endpoints: Pending<EndpointRow> = new Map();
  readonly namespaces: Pending<NamespaceRow> = new Map();
  readonly serviceAccounts: Pending<ServiceAccountRow> = new Map();
  /** One that is not valid is here, closed; staged ones too. */
  readonly policies: Pending<PolicyModel> = new Map();
  readonly profiles: Pending<ProfileRow> = new Map();
  readonly endpointSlices: Pending<EndpointSliceRow> = new Map();
  /** By name. */
  readonly felixConfigurations = new Map<string, FelixRow | undefined>();
  /** By name. */
  readonly nodeLabels = new Map<string, Readonly<Record<string, string>> | undefined>();
  /** By name. */
  readonly tiers = new Map<string, TierModel | undefined>();
  readonly blocks: Pending<BlockRow> = new Map();
  readonly pools: Pending<PoolRow> = new Map();
  /** By name. */
  readonly nodes = new Map<string, NodeAddresses | undefined>();
  /** By interface. */
  readonly records = new Map<string, CniRecord | undefined>();
  /** Addresses of the node's own interfaces, by name. */
  readonly interfaces = new Map<string, readonly Addr[] | undefined>();
  /** Of policies, endpoints, blocks and pools: why it cannot be read; undefined: it can. */
  readonly problems: Pending<string> = new Map();

  put(update: RowUpdate): void {
    switch (update.kind) {
      case "Pod":
        return this.#put(this.endpoints, update.id, update.value?.endpoint);
      case "WorkloadEndpoint":
        return this.#putEndpoint(update.id, update.value?.endpoint);
      case "HostEndpoint":
      case "NetworkSet":
      case "GlobalNetworkSet":
        return this.#putEndpoint(update.id, update.value);
      case "Namespace":
        return void this.namespaces.set(update.id, update.value);
      case "ServiceAccount":
        return void this.serviceAccounts.set(update.id, update.value);
      case "KubernetesNetworkPolicy":
      case "NetworkPolicy":
      case "GlobalNetworkPolicy":
      case "ClusterNetworkPolicy":
      case "AdminNetworkPolicy":
      case "BaselineAdminNetworkPolicy":
      case "StagedNetworkPolicy":
      case "StagedGlobalNetworkPolicy":
      case "StagedKubernetesNetworkPolicy":
        return this.#putPolicy(update.id, update.value?.model);
      case "Profile":
        this.problems.set(update.id, update.value?.error);
        return void this.profiles.set(update.id, update.value);
      case "EndpointSlice":
        return void this.endpointSlices.set(update.id, update.value);
      case "FelixConfiguration":
        return void this.felixConfigurations.set(update.key.name, update.value);
      case "Tier":
        return void this.tiers.set(update.key.name, update.value);
      case "IPAMBlock":
        return this.#put(this.blocks, update.id, update.value);
      case "IPPool":
        return this.#put(this.pools, update.id, update.value?.row);
      case "Node":
        this.nodeLabels.set(update.key.name, update.value?.labels);
        return void this.nodes.set(update.key.name, update.value?.addresses);
      case "Event":
      case "BlockAffinity":
      case "IPAMHandle":
      case "ClusterInformation":
      case "KubeControllersConfiguration":
      case "IPAMConfiguration":
      case "IPReservation":
      case "Service":
      case "NodePolicyStatus":
      case "Lease":
        // They do not affect what this node should do.
        return;
      default:
        assertNever(update);
    }
  }

  #putEndpoint(key: KeyText, row: Result<EndpointRow, ParseError> | undefined): void {
    this.#put(this.endpoints, key, row);
    if (row?.ok === true) this.problems.set(key, row.value.problem);
  }

  #putPolicy(key: KeyText, model: PolicyModel | undefined): void {
    this.problems.set(key, model?.error);
    this.policies.set(key, model);
  }

  #put<T>(table: Pending<T>, key: KeyText, row: Result<T, FieldError | ParseError> | undefined): void {
    this.problems.set(key, row?.ok === false ? formatError(row.error) : undefined);
    table.set(key, row?.ok === true ? row.value : undefined);
  }
}

function formatError(error: FieldError | ParseError): string {
  return "what" in error ? formatParseError(error) : formatFieldError(error);
}
