/** Verdict: what became of a packet at one end, and which written rule (or lack of one) decided. */
import type { Direction } from "./policy.ts";
import type { Key } from "./key.ts";

export type Reason =
  /** Rule `index` of that policy matched. */
  | { readonly type: "rule"; readonly policy: Key; readonly direction: Direction; readonly index: number }
  /** Policies select the pod in this direction and none of their rules matched; all of them, in order. */
  | { readonly type: "no-rule-matched"; readonly policies: readonly Key[]; readonly direction: Direction }
  /** No policy selects the pod in this direction. */
  | { readonly type: "not-isolated"; readonly direction: Direction }
  /** Traffic between a pod and the node it runs on, originated by the node. */
  | { readonly type: "own-node" }
  /** A pod's traffic to its own address never leaves it. */
  | { readonly type: "itself" }
  /** The end is not a pod of the cluster: nothing is enforced there. */
  | { readonly type: "not-a-pod" };

export interface Verdict {
  readonly action: "allow" | "deny";
  readonly reason: Reason;
}
