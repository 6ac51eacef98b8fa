/** ServiceAddresses: free addresses for Services out of one range, the lowest first after the first ten, which stay reserved. */
import { type Addr, addrFromInteger, addrToInteger, bitsOf, parseAddr } from "../../../src/net/addr.ts";
import { type Prefix, prefixAddr, prefixContains, prefixFamily, prefixLength } from "../../../src/net/prefix.ts";
import { ApiError } from "../errors.ts";
import { fieldAt, stringAt } from "../../../src/model/schema/json.ts";
import type { Storage } from "./storage.ts";

const RESERVED = 10;

export class ServiceAddresses {
  readonly #range: Prefix;
  constructor(range: Prefix) {
    this.#range = range;
  }

  get family(): "IPv4" | "IPv6" {
    return prefixFamily(this.#range) === 4 ? "IPv4" : "IPv6";
  }

  /** Why no Service can be given the address; undefined: one can. The text must be an address. */
  problem(storage: Storage, address: string): string | undefined {
    const parsed = parseAddr(address);
    if (!parsed.ok || !prefixContains(this.#range, parsed.value))
      return `the provided IP (${address}) is not in the valid range. The range of valid IPs is ${this.#range}`;
    return usedAddresses(storage).has(parsed.value) ? "provided IP is already allocated" : undefined;
  }

  /** An address that no stored Service holds; 500 when the range is used up. */
  allocate(storage: Storage): string {
    const used = usedAddresses(storage);
    const family = prefixFamily(this.#range);
    const first = addrToInteger(prefixAddr(this.#range));
    const size = 1n << BigInt(Math.min(bitsOf(family) - prefixLength(this.#range), 20));
    for (let offset = BigInt(RESERVED); offset < size - 1n; offset++) {
      const address: Addr = addrFromInteger(family, first + offset);
      if (!used.has(address)) return address;
    }
    throw new ApiError(500, "InternalError", `Cannot allocate a service address: the range ${this.#range} is full`);
  }
}

function usedAddresses(storage: Storage): Set<string> {
  return new Set(storage.list("services").map((stored) => stringAt(fieldAt(stored.object, "spec", "clusterIP"))));
}
