/** PodRequest: the network of one pod to create. */
import type { Addr } from "../net/addr.ts";

export interface PodRequest {
  readonly hostInterface: string;
  readonly podInterface: string;
  /** Path of the pod's network namespace. */
  readonly netns: string;
  /** At most one of each family. */
  readonly addresses: readonly Addr[];
  readonly mtuBytes: number;
  /** MAC of the pod's end; undefined: the kernel's choice. */
  readonly mac?: string | undefined;
}
