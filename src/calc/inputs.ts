/** Inputs: what has been said since the last step, one pending change a key: the newest word counts, by the contract of `model/update.ts`. */
import { assertNever } from "../lib/bug.ts";
import type { CniRecord } from "../model/endpoint.ts";
import { formatKey, type KeyText } from "../model/key.ts";
import type { Resource } from "../model/resource.ts";
import type { Update } from "../model/update.ts";

type Pending<T> = Map<KeyText, T | undefined>;

export class Inputs {
  readonly pods: Pending<Resource<"Pod">> = new Map();
  readonly namespaces: Pending<Resource<"Namespace">> = new Map();
  readonly serviceAccounts: Pending<Resource<"ServiceAccount">> = new Map();
  readonly networkPolicies: Pending<Resource<"KubernetesNetworkPolicy">> = new Map();
  readonly blocks: Pending<Resource<"IPAMBlock">> = new Map();
  /** By interface. */
  readonly records = new Map<string, CniRecord | undefined>();

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
        return void this.blocks.set(key, update.value);
      case "Node":
      case "Event":
      case "IPPool":
      case "BlockAffinity":
      case "IPAMHandle":
      case "ClusterInformation":
      case "KubeControllersConfiguration":
      case "IPAMConfiguration":
      case "IPReservation":
        // Nothing that a kernel should do on this node follows from them.
        return;
      default:
        assertNever(update);
    }
  }
}
