/** Verdict: what happens to a packet at one end, and which written rule (or lack of one) decides. */
import type { Action, Direction } from "./policy.ts";
import type { Key } from "./key.ts";

export type Reason =
  /** Rule `index` of that policy or profile matched. */
  | { readonly type: "rule"; readonly policy: Key; readonly direction: Direction; readonly index: number }
  /** These policies of the tier, in order, apply to the endpoint in this direction, and none of their rules decided. */
  | {
      readonly type: "no-rule-matched";
      readonly tier: string;
      readonly policies: readonly Key[];
      readonly direction: Direction;
    }
  /** Every tier passed the packet on, and no profile decided. */
  | { readonly type: "end"; readonly direction: Direction }
  /** No policy and no profile applies to the endpoint in this direction. */
  | { readonly type: "not-isolated"; readonly direction: Direction }
  /** Traffic between a pod and the node it runs on, originated by the node. */
  | { readonly type: "own-node" }
  /** A pod's traffic to its own address, which never leaves the pod. */
  | { readonly type: "itself" }
  /** The end is not a pod of the cluster: nothing is enforced there. */
  | { readonly type: "not-a-pod" };

export interface Verdict {
  readonly action: "allow" | "deny";
  readonly reason: Reason;
  /** Rules that matched on the way and did not decide, in order; absent where there were none. */
  readonly trace?: readonly TraceStep[];
}

/** A rule that matched and passed the packet on to the next tier, or logged it. */
export interface TraceStep {
  readonly action: Extract<Action, "pass" | "log">;
  readonly policy: Key;
  readonly direction: Direction;
  readonly index: number;
}
