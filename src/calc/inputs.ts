/**
 * Inputs: what has been said since the last step, as rows, one pending change a key: the newest word counts, by the contract of
 * `model/update.ts`. An object that cannot be read counts as absent, and why is a problem.
 */
import { assertNever } from "../lib/bug.ts";
import { type BlockRow, blockRowOf } from "../model/convert/block.ts";
import { type NodeAddresses, nodeAddressesOf } from "../model/convert/node.ts";
import { type PoolRow, poolRowOf } from "../model/convert/pool.ts";
import type { Result } from "../lib/result.ts";
import type { CniRecord } from "../model/endpoint.ts";
import { formatKey, type KeyText } from "../model/key.ts";
import type { Resource } from "../model/resource.ts";
import { type FieldError, formatFieldError } from "../model/schema/field-error.ts";
import type { Update } from "../model/update.ts";

type Pending<T> = Map<KeyText, T | undefined>;

export class Inputs {
  readonly pods: Pending<Resource<"Pod">> = new Map();
  readonly namespaces: Pending<Resource<"Namespace">> = new Map();
  readonly serviceAccounts: Pending<Resource<"ServiceAccount">> = new Map();
  readonly networkPolicies: Pending<Resource<"KubernetesNetworkPolicy">> = new Map();
  readonly blocks: Pending<BlockRow> = new Map();
  readonly pools: Pending<PoolRow> = new Map();
  /** By name. */
  readonly nodes = new Map<string, NodeAddresses | undefined>();
  /** By interface. */
  readonly records = new Map<string, CniRecord | undefined>();
  /** Of the blocks and pools: why it cannot be read; undefined: nothing is wrong with it. */
  readonly problems: Pending<string> = new Map();

  put(update: Update): void {
    const key = formatKey(update.key);
    switch (update.kind) {
      case "Pod":
        return void this.pods.set(key, update.value);
      case "Namespace":
        return void this.namespaces.set(key, update.value);
      case "ServiceAccount":
        return void this.serviceAccounts.set(key, update.value);
      case "KubernetesNetworkPolicy":
        return void this.networkPolicies.set(key, update.value);
      case "IPAMBlock":
        return this.#put(this.blocks, key, update.value === undefined ? undefined : blockRowOf(update.value));
      case "IPPool":
        return this.#put(this.pools, key, update.value === undefined ? undefined : poolRowOf(update.value));
      case "Node":
        return void this.nodes.set(
          update.key.name,
          update.value === undefined ? undefined : nodeAddressesOf(update.value),
        );
      case "Event":
      case "BlockAffinity":
      case "IPAMHandle":
      case "ClusterInformation":
      case "KubeControllersConfiguration":
      case "IPAMConfiguration":
      case "IPReservation":
        // Nothing that this node should do follows from them.
        return;
      default:
        assertNever(update);
    }
  }
  #put<T>(table: Pending<T>, key: KeyText, row: Result<T, FieldError> | undefined): void {
    this.problems.set(key, row?.ok === false ? formatFieldError(row.error) : undefined);
    table.set(key, row?.ok === true ? row.value : undefined);
  }
}
