import { expect, test } from "bun:test";
import { KernelError } from "../kernel/errno.ts";
import type { Sys } from "../host/sys.ts";
import type { Resource } from "../model/resource.ts";
import { type RowUpdate, rowsFor } from "../model/convert/rows.ts";
import { poolsWithoutFamily } from "./families.ts";
import { enableForwarding } from "./sysctls.ts";

const [EACCES, ENOENT] = [13, 2];

/** A kernel with these settings, by path; a number is the errno with which opening fails. */
function kernelWith(settings: Readonly<Record<string, number | undefined>>): {
  readonly sys: Sys;
  readonly written: string[];
} {
  const written: string[] = [];
  const sys = {
    open: (path: string) => {
      if (!(path in settings)) return -ENOENT;
      const errno = settings[path];
      return errno === undefined ? written.push(path) : -errno;
    },
    write: (_fd: number, bytes: Uint8Array) => bytes.length,
    close: () => 0,
  } as unknown as Sys;
  return { sys, written };
}

const IPV4 = "/proc/sys/net/ipv4/ip_forward";
const IPV6 = "/proc/sys/net/ipv6/conf/all/forwarding";

test("both families are forwarded", () => {
  const { sys, written } = kernelWith({ [IPV4]: undefined, [IPV6]: undefined });
  expect([[...enableForwarding(sys)], written]).toEqual([
    [4, 6],
    [IPV4, IPV6],
  ]);
});

test("a kernel without IPv6 goes on with IPv4", () => {
  const { sys, written } = kernelWith({ [IPV4]: undefined });
  expect([[...enableForwarding(sys)], written]).toEqual([[4], [IPV4]]);
});

test("what is refused for another reason, and IPv4 that is missing, is an error that names the setting", () => {
  expect(() => enableForwarding(kernelWith({ [IPV4]: undefined, [IPV6]: EACCES }).sys)).toThrow(KernelError);
  expect(() => enableForwarding(kernelWith({ [IPV6]: undefined }).sys)).toThrow("net/ipv4/ip_forward");
});

function poolUpdate(cidr: string, disabled = false): RowUpdate {
  const value: Resource<"IPPool"> = {
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name: "p" },
    spec: { cidr, disabled },
  };
  return rowsFor("n1")({
    kind: "IPPool",
    key: { kind: "IPPool", namespace: undefined, name: "p" },
    value,
    origin: { revision: "1", generation: 1, seenAt: 0 },
  });
}

test("a pool of a family that the kernel lacks is named, with the node", () => {
  const updates = [poolUpdate("10.0.0.0/16"), poolUpdate("fd00::/48"), poolUpdate("fd01::/48", true)];
  expect(poolsWithoutFamily(updates, "n1", new Set([4, 6]))).toEqual([]);
  expect(poolsWithoutFamily(updates, "n1", new Set([4]))).toMatchObject([
    { reason: "FamilyUnavailable", message: expect.stringContaining("node n1: its kernel has no IPv6") },
  ]);
});
