/** denied: the packets that policy has denied lately, each with what decided, as far as a dataplane tells of them. */
import type { Key } from "../model/key.ts";
import type { Direction } from "../model/policy.ts";
import type { FlowPacket } from "../net/flow.ts";

/** Where a packet came from, or would have gone to. */
export interface DeniedEnd {
  /** undefined: the node itself. */
  readonly interface: string | undefined;
  /** undefined: the interface has none. */
  readonly endpoint: Key | undefined;
}

/** What decided; `changed`: policy has changed between the packet and the reading. Rules are numbered from 1, as written. */
export type DeniedBy =
  | {
      readonly is: "rule";
      readonly policy: Key;
      readonly tier: string;
      readonly direction: Direction;
      readonly rule: number;
    }
  | { readonly is: "tier-end"; readonly tier: string; readonly direction: Direction }
  | { readonly is: "end"; readonly direction: Direction }
  | { readonly is: "changed" };

export interface DeniedPacket {
  /** RFC 3339. */
  readonly time: string;
  readonly from: DeniedEnd;
  readonly to: DeniedEnd;
  /** As policy saw it. */
  readonly packet: FlowPacket;
  readonly by: DeniedBy;
}

export interface DeniedPackets {
  /** The last ones, oldest first. */
  readonly packets: readonly DeniedPacket[];
  /** Packets that were denied or logged and of which nobody was told, because there were too many, since the path is there. */
  readonly missed: number;
}

/** `packets` is absent where the dataplane does not tell of them. */
export type Denied = { readonly dataplane: string } & Partial<DeniedPackets>;
