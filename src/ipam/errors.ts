/** IpamError: an address could not be assigned, for a reason other than a failure of the datastore. */
export type IpamReason =
  /** No enabled pool of the family serves the node, or a requested pool is missing, disabled or of the wrong family. */
  | "no-pool"
  /** The node owns as many blocks as it may and all are full. */
  | "block-limit"
  /** Every address of every usable pool is taken. */
  | "exhausted"
  /** The requested address belongs to another handle. */
  | "in-use"
  /** The address is in no pool, or not held by the named handle. */
  | "not-held"
  /** The IPAMConfiguration does not allow it. */
  | "forbidden"
  /** The IPAMConfiguration contradicts itself; the message names the field. */
  | "misconfigured"
  /** Other writers won every race: try again later. */
  | "contended";

export class IpamError extends Error {
  override readonly name = "IpamError";
  readonly reason: IpamReason;
  constructor(reason: IpamReason, message: string) {
    super(message);
    this.reason = reason;
  }
}
