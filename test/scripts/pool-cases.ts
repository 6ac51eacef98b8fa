/** PoolCases: IPPools that any API server with our CustomResourceDefinitions accepts or refuses, both families, and in what words. */
import type { RuleServer } from "./rule-cases.ts";

export interface PoolCase {
  readonly name: string;
  readonly spec: object;
  /** What the pool becomes, when the case is an update. */
  readonly update?: object;
  readonly errors: readonly string[];
}

const BLOCK_SIZE = 'spec.blockSize: Invalid value: "object": must be between 20 and 32, inclusive, for an IPv4 pool, and between 116 and 128 for an IPv6 pool';
const TOO_SMALL = 'spec.cidr: Invalid value: "object": the pool is smaller than one block: its prefix length must be at most the block size, which is 26 for IPv4 and 122 for IPv6 when absent';
const RANGE = 'spec.cidr: Invalid value: "string": must be CIDR text, host bits zero, such as 10.0.0.0/16 or fd00::/64';
const FIXED_RANGE = "spec.cidr: Forbidden: the range of a pool cannot be changed: create another pool";
const FIXED_SIZE = "spec.blockSize: Forbidden: the block size of a pool cannot be changed: create another pool";
const BOTH = "spec: Forbidden: ipipMode and vxlanMode cannot both be on: one of them must be Never or absent";
const IPIP = "spec.ipipMode: Forbidden: IPIP carries IPv4 only: must be Never or absent in an IPv6 pool";

const UNASKED = "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

function typeError(text: string): string {
  return `spec.cidr: Invalid value: ${JSON.stringify(text)}: spec.cidr in body must be of type cidr: ${JSON.stringify(text)}`;
}

const V4 = "10.30.0.0/16";
const V6 = "fd30::/64";

export const POOL_CASES: readonly PoolCase[] = [
  { name: "IPv4", spec: { cidr: V4 }, errors: [] },
  { name: "IPv6", spec: { cidr: V6 }, errors: [] },
  { name: "IPv4, smallest blocks", spec: { cidr: V4, blockSize: 32 }, errors: [] },
  { name: "IPv6, smallest blocks", spec: { cidr: V6, blockSize: 128 }, errors: [] },
  { name: "IPv4, largest blocks", spec: { cidr: V4, blockSize: 20 }, errors: [] },
  { name: "IPv6, largest blocks", spec: { cidr: V6, blockSize: 116 }, errors: [] },
  { name: "block size 0 is absent", spec: { cidr: V4, blockSize: 0 }, errors: [] },
  { name: "IPv4, blocks too large", spec: { cidr: V4, blockSize: 19 }, errors: [BLOCK_SIZE] },
  { name: "IPv6, blocks too large", spec: { cidr: V6, blockSize: 115 }, errors: [BLOCK_SIZE] },
  { name: "IPv4, blocks of IPv6", spec: { cidr: V4, blockSize: 122 }, errors: [BLOCK_SIZE] },
  { name: "IPv6, blocks of IPv4", spec: { cidr: V6, blockSize: 26 }, errors: [BLOCK_SIZE, TOO_SMALL] },
  { name: "IPv4, smaller than a block", spec: { cidr: "10.30.0.0/27" }, errors: [TOO_SMALL] },
  { name: "IPv6, smaller than a block", spec: { cidr: "fd30::/123" }, errors: [TOO_SMALL] },
  { name: "IPv4, one block", spec: { cidr: "10.30.0.0/28", blockSize: 28 }, errors: [] },
  { name: "IPv6, one block", spec: { cidr: "fd30::/124", blockSize: 124 }, errors: [] },
  { name: "smaller than a block, disabled", spec: { cidr: "10.30.0.0/27", disabled: true }, errors: [] },
  { name: "IPv4, host bits", spec: { cidr: "10.30.0.1/16" }, errors: [RANGE] },
  { name: "IPv6, host bits", spec: { cidr: "fd30::1/64" }, errors: [RANGE] },
  { name: "IPv4 written as IPv6", spec: { cidr: "::ffff:10.30.0.0/112" }, errors: [RANGE] },
  { name: "IPv4, no range", spec: { cidr: "10.30.0.0" }, errors: [typeError("10.30.0.0"), UNASKED] },
  { name: "IPv6, no range", spec: { cidr: "fd30::" }, errors: [typeError("fd30::"), UNASKED] },
  { name: "both tunnels", spec: { cidr: V4, ipipMode: "Always", vxlanMode: "CrossSubnet" }, errors: [BOTH] },
  { name: "one tunnel, the other off", spec: { cidr: V4, ipipMode: "CrossSubnet", vxlanMode: "Never" }, errors: [] },
  { name: "IPv6, VXLAN", spec: { cidr: V6, ipipMode: "Never", vxlanMode: "Always" }, errors: [] },
  { name: "IPv6, IPIP", spec: { cidr: V6, ipipMode: "Always" }, errors: [IPIP] },
  { name: "IPv4, another range", spec: { cidr: V4 }, update: { cidr: "10.31.0.0/16" }, errors: [FIXED_RANGE] },
  { name: "IPv6, another range", spec: { cidr: V6 }, update: { cidr: "fd31::/64" }, errors: [FIXED_RANGE] },
  { name: "IPv4, another block size", spec: { cidr: V4 }, update: { cidr: V4, blockSize: 28 }, errors: [FIXED_SIZE] },
  { name: "IPv6, another block size", spec: { cidr: V6, blockSize: 124 }, update: { cidr: V6 }, errors: [FIXED_SIZE] },
  { name: "IPv4, the usual block size said", spec: { cidr: V4 }, update: { cidr: V4, blockSize: 26 }, errors: [] },
  { name: "IPv6, the usual block size said", spec: { cidr: V6 }, update: { cidr: V6, blockSize: 122 }, errors: [] },
  { name: "disabled later", spec: { cidr: V4 }, update: { cidr: V4, disabled: true, nodeSelector: "rack == 'a'" }, errors: [] },
];

const POOLS = "/apis/projectcalico.org/v3/ippools";

/** The errors of the case; the pool is gone afterwards. */
export async function runPoolCase(server: RuleServer, { spec, update }: PoolCase): Promise<readonly string[]> {
  const made = await server.create(POOLS, { apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name: "case" }, spec });
  if (made.length > 0) return made;
  try {
    return update === undefined ? [] : await server.replace(`${POOLS}/case`, { spec: update });
  } finally {
    await server.remove(`${POOLS}/case`);
  }
}
