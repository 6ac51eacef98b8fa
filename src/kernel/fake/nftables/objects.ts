/** The nf_tables objects as the fake kernel keeps them: bodies as they were sent, references counted as the real one counts them. */
import type { SetElements } from "./elements.ts";
import type { FakeExpression, FakeSetIs } from "./values.ts";

export interface FakeRule {
  readonly handle: number;
  readonly expressions: readonly FakeExpression[];
  readonly userdata: Uint8Array | undefined;
  packets: bigint;
  bytes: bigint;
}

export interface FakeBase {
  readonly hook: number;
  readonly priority: number;
  readonly type: string;
  policy: number;
}

export interface FakeChain {
  readonly name: string;
  readonly handle: number;
  readonly base: FakeBase | undefined;
  readonly rules: FakeRule[];
  /** Rules and elements of maps that jump or go here. */
  references: number;
}

export interface FakeSet {
  readonly name: string;
  readonly handle: number;
  readonly is: FakeSetIs;
  readonly elements: SetElements;
  /** Rules that look things up here. */
  references: number;
}

/** A device is taken out when that interface goes, whatever has its name later. */
export interface FakeDevice {
  readonly name: string;
  readonly index: number;
}

export interface FakeFlowtable {
  readonly name: string;
  readonly handle: number;
  readonly priority: number;
  devices: readonly FakeDevice[];
  /** Rules that name it. */
  references: number;
}

export interface FakeTable {
  readonly family: number;
  readonly name: string;
  readonly handle: number;
  flags: number;
  /** Port id of the socket that owns it. */
  owner: number | undefined;
  readonly chains: Map<string, FakeChain>;
  readonly sets: Map<string, FakeSet>;
  readonly flowtables: Map<string, FakeFlowtable>;
  handles: number;
}

export const TABLE_DORMANT = 1;
export const TABLE_OWNER = 2;
export const TABLE_PERSIST = 4;

/** The kernel's limit of names, less the NUL. */
export const NAME_MAX_BYTES = 255;
