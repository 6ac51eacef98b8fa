import { describe, expect, test } from "bun:test";
import { BugError } from "../../lib/bug.ts";
import { unwrap } from "../../lib/result.ts";
import { parseAddr } from "../../net/addr.ts";
import { openNamespace, withNamespace } from "../netns.ts";
import { NftablesClient } from "../nftables/client.ts";
import type { NftCommand, NftElement, NftSet, TableId } from "../nftables/objects.ts";
import { RouteClient } from "../route/client.ts";
import { readSysctl, writeSysctl } from "../sysctl.ts";
import { FakeKernel } from "./kernel.ts";

const TABLE: TableId = { family: "inet", name: "t" };
const SET: NftSet = { key: ["ipv4_addr"], interval: false, verdictMap: false };
const element = (key: string): NftElement => ({ key, keyEnd: undefined, verdict: undefined });
const BASE: readonly NftCommand[] = [{ do: "add-table" }, { do: "add-set", set: "s", is: SET }];
const add = (...keys: string[]): NftCommand => ({ do: "add-elements", set: "s", is: SET, elements: keys.map(element) });

function pair(client: RouteClient, sys: Parameters<typeof openNamespace>[0], path: string): void {
  const fd = openNamespace(sys, path);
  const ends = { name: "cali1", mac: "ee:ee:ee:ee:ee:ee", mtuBytes: 1400, up: false, peerName: "eth0" };
  client.createVeth({ ...ends, peerMac: undefined, peerNamespaceFd: fd });
  sys.close(fd);
}

describe("what the model has no rule for is refused loudly", () => {
  const { sys } = new FakeKernel().startProcess();
  for (const [name, run] of [
    ["another kind of socket", () => sys.socket(17, 3, 0)],
    ["another protocol of netlink", () => sys.socket(16, 3, 15)],
    ["an unknown setting", () => sys.open("/proc/sys/net/ipv4/tcp_rmem", 0)],
    ["ioctl", () => sys.ioctl(3, 0x8913, new Uint8Array(40))],
  ] as const)
    test(name, () => expect(run).toThrow(BugError));
});

describe("faults on request", () => {
  test("one element is refused, and with it the transaction", () => {
    const kernel = new FakeKernel();
    const client = new NftablesClient(kernel.startProcess().sys, TABLE);
    client.commit(BASE);
    kernel.faults = { request: ({ object }) => (object === "element s 0a000002" ? 16 : undefined) };
    expect(() => client.commit([add("0a000001", "0a000002")])).toThrow("EBUSY");
    expect(client.read()?.sets.get("s")?.elements).toEqual([]);
    client.commit([add("0a000001", "0a000003")]);
  });

  test("no memory is the answer for the whole batch", () => {
    const kernel = new FakeKernel();
    const client = new NftablesClient(kernel.startProcess().sys, TABLE);
    kernel.faults = { request: ({ object }) => (object === "set s" ? 12 : undefined) };
    expect(() => client.commit(BASE)).toThrow("Cannot commit transaction to table inet t: ENOMEM");
    expect(client.read()).toBeUndefined();
  });

  test("a set has a limit", () => {
    const kernel = new FakeKernel();
    const client = new NftablesClient(kernel.startProcess().sys, TABLE);
    kernel.faults = { setLimit: () => 2 };
    client.commit(BASE);
    expect(() => client.commit([add("0a000001", "0a000002", "0a000003")])).toThrow("ENFILE");
    client.commit([add("0a000001", "0a000002")]);
  });

  test("a dump that was interrupted is repeated; system calls fail by name", () => {
    const kernel = new FakeKernel();
    const { sys } = kernel.startProcess();
    const client = new RouteClient(sys);
    let interruptions = 2;
    kernel.faults = { interruptDump: () => interruptions-- > 0 };
    expect(client.links().map(({ name }) => name)).toEqual(["lo"]);
    expect(interruptions).toBe(-1);
    kernel.faults = { call: (name) => (name === "send" ? 105 : undefined) };
    expect(() => client.links()).toThrow("ENOBUFS");
  });
});

test("a process that ends leaves its table without an owner, or takes one that does not persist with it", () => {
  const kernel = new FakeKernel();
  const process = kernel.startProcess();
  new NftablesClient(process.sys, TABLE).commit([{ do: "own-table" }]);
  const other = new NftablesClient(kernel.startProcess().sys, TABLE);
  expect(other.read()?.owner).toBe(process.pid);
  expect(() => other.commit([{ do: "delete-table" }])).toThrow("EPERM");
  process.end();
  expect(other.read()).toMatchObject({ flags: ["persist"], owner: undefined });
});

test("a kernel that knows no owners says so", () => {
  const client = new NftablesClient(new FakeKernel({ ownsTables: false }).startProcess().sys, TABLE);
  expect(() => client.commit([{ do: "own-table" }])).toThrow("EOPNOTSUPP");
});

test("a namespace ends with its last holder, and its pairs with it", () => {
  const kernel = new FakeKernel();
  kernel.addNamespace("/pod");
  const { sys } = kernel.startProcess();
  const client = new RouteClient(sys);
  pair(client, sys, "/pod");
  const inside = withNamespace(sys, "/pod", () => new RouteClient(sys));
  kernel.removeNamespace("/pod");
  expect(client.linkByName("cali1")).toBeDefined();
  inside.close();
  expect(client.linkByName("cali1")).toBeUndefined();
});

test("settings of an interface come and go with it; a switch for all is one for each", () => {
  const kernel = new FakeKernel();
  kernel.addNamespace("/pod");
  const { sys } = kernel.startProcess();
  const client = new RouteClient(sys);
  writeSysctl(sys, "net/ipv4/ip_forward", "1");
  pair(client, sys, "/pod");
  expect(readSysctl(sys, "net/ipv4/conf/cali1/forwarding")).toBe("1");
  const link = client.linkByName("cali1");
  if (link === undefined) throw new Error("no link");
  client.setLinkUp(link.index);
  client.addAddress(link.index, unwrap(parseAddr("fd00::1")), 64, { noDad: true });
  writeSysctl(sys, "net/ipv6/conf/all/disable_ipv6", "1");
  expect(client.addresses(link.index)).toEqual([]);
  expect(() => client.addAddress(link.index, unwrap(parseAddr("fd00::1")), 64)).toThrow("EACCES");
  client.deleteLink(link.index);
  expect(readSysctl(sys, "net/ipv4/conf/cali1/forwarding")).toBeUndefined();
});
