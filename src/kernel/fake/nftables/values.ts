/** Values: what rules and sets are made of, as they were sent: verdicts, expressions, declarations. */
export interface FakeVerdict {
  /** enum nft_verdicts. */
  readonly code: number;
  /** Of jump and goto. */
  readonly chain: string | undefined;
}

/** How an attribute is written back. */
export type FakeValue =
  | { readonly as: "u32"; readonly value: number }
  | { readonly as: "register"; readonly value: number }
  | { readonly as: "data"; readonly bytes: Uint8Array }
  | { readonly as: "text"; readonly text: string }
  | { readonly as: "verdict"; readonly verdict: FakeVerdict };

export interface FakeExpression {
  readonly name: string;
  readonly attributes: ReadonlyMap<number, FakeValue>;
  /** Set that it looks things up in. */
  readonly set: string | undefined;
  /** Flowtable that it puts flows into. */
  readonly flowtable?: string;
  readonly verdict: FakeVerdict | undefined;
}

/** A set's declaration, as sent. */
export interface FakeSetIs {
  readonly flags: number;
  readonly keyType: number;
  readonly keyLength: number;
  readonly dataType: number | undefined;
  /** Bytes of each field of a concatenation of ranges. */
  readonly fields: readonly number[] | undefined;
  readonly size: number | undefined;
  readonly userdata: Uint8Array | undefined;
}
