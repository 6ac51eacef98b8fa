/** PodRequest: the network of one pod as it is to be made. */
import type { Addr } from "../net/addr.ts";

export interface PodRequest {
  readonly hostInterface: string;
  readonly podInterface: string;
  /** Path of the pod's network namespace. */
  readonly netns: string;
  /** At most one of each family. */
  readonly addresses: readonly Addr[];
  readonly mtuBytes: number;
  /** Of the pod's end; undefined: the kernel's choice. */
  readonly mac?: string | undefined;
}
