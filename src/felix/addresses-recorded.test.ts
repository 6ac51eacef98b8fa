/** Addresses that were recorded, and what may go wrong with them: another holder, a restart, a deleted block, a disk that refuses, two releases. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { MemoryStore } from "../datastore/memory.ts";
import { openFiles } from "../host/bun/files.ts";
import { FileError, type Files } from "../host/files.ts";
import { openRandom } from "../host/bun/random.ts";
import { ownerOf, reserveHandle } from "../model/kinds/reserved.ts";
import { VirtualClock } from "../lib/virtual-clock.ts";
import { Ipam } from "../ipam/ipam.ts";
import { AddressReserve } from "../ipam/reserve.ts";
import { Addresses, type Taken } from "./addresses.ts";
import { type Attachment, Journal } from "./journal.ts";

/** Of the journal, in memory as on a node. */
let directory = "";
beforeEach(() => {
  directory = mkdtempSync("/dev/shm/calico-addresses-");
});
afterEach(() => rmSync(directory, { recursive: true }));

const NOTHING_ASKED = { addresses: undefined, ipv4Pools: undefined, ipv6Pools: undefined, mac: undefined };

describe("what was recorded goes wrong", () => {
  const POD = { kind: "Pod", namespace: "a", name: "b" } as const;
  const attachmentOf = ({ addresses, handle, assignedAt }: Taken): Attachment => ({
    record: {
      containerId: handle.slice("net.".length),
      pod: POD,
      interface: "cali1",
      addresses,
      mac: "02:00:00:00:00:01",
      netns: "",
      podInterface: "eth0",
    },
    handle,
    assignedAt,
    mtuBytes: 1500,
    state: "attached",
    wired: true,
  });

  /** How a block records an address of the reserve. */
  const RESERVE_RECORD = ownerOf(reserveHandle("n1"), {}).handle_id ?? "";

  async function bench(
    files: Files = openFiles(),
    spec: { readonly cidr: string; readonly blockSize: number } = { cidr: "fd00::/122", blockSize: 122 },
  ) {
    const memory = new MemoryStore();
    await memory.create("IPPool", {
      apiVersion: "projectcalico.org/v3",
      kind: "IPPool",
      metadata: { name: "p" },
      spec,
    });
    const clock = new VirtualClock();
    const ipam = new Ipam({ store: memory, node: "n1", clock, random: openRandom(), report: () => {} });
    const reserve = new AddressReserve({ ipam, node: "n1", clock, inUse: new Map(), size: 1 });
    await clock.until(reserve.refill());
    const journal = await Journal.open(files, directory, () => {});
    const closed: string[] = [];
    const said: Record<string, string> = {};
    const addresses = new Addresses({
      node: "n1",
      store: memory,
      ipam,
      reserve,
      journal,
      clock,
      annotationsOf: () => said,
      closeLoser: async ({ handle }, why) => void closed.push(`${handle}: ${why}`),
      endFlows: () => {},
      report: () => {},
    });
    const take = (containerId: string) =>
      clock.until(
        addresses.take({
          containerId,
          network: "net",
          pod: POD,
          families: [6],
          requests: NOTHING_ASKED,
          namespaceLabels: {},
        }),
      );
    const holders = async (): Promise<string[]> =>
      (await memory.list("IPAMBlock")).items.flatMap(({ spec }) =>
        spec.allocations.flatMap((index) => (index === null ? [] : [spec.attributes[index]?.handle_id ?? ""])),
      );
    return { memory, clock, ipam, reserve, journal, closed, said, addresses, take, holders };
  }

  test("an address that another holder has: the pod is closed, its Pod says that it has none, and nothing is tried again", async () => {
    const { memory, clock, ipam, journal, closed, addresses, take } = await bench();
    await memory.create("Pod", {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "b", namespace: "a" },
      spec: { containers: [] },
    });
    const taken = await take("c1");
    const [addr] = taken.addresses;
    if (addr === undefined) throw new Error("no address");
    await clock.until(ipam.releaseAddresses([addr], [reserveHandle("n1")]));
    await clock.until(ipam.assignAddress(addr, "other.c9", { node: "n2" }));
    await journal.put(attachmentOf(taken));
    addresses.confirm(attachmentOf(taken));
    await clock.advance(60_000);
    expect(closed).toEqual([
      `net.c1: Cannot move ${addr} from handle "${reserveHandle("n1")}" to "net.c1": handle "other.c9" holds it`,
    ]);
    expect(addresses.backlog).toBe(0);
    expect((await memory.get(POD))?.metadata.annotations).toMatchObject({
      "cni.projectcalico.org/podIPs": "",
      "cni.projectcalico.org/containerID": "c1",
    });
    addresses.release(await journal.release(attachmentOf(taken)));
    await clock.advance(60_000);
    expect((await memory.list("IPAMHandle")).items.map(({ spec }) => spec.handleID)).toContain("other.c9");
  });

  test("what was done before a restart is not written again; what is missing is", async () => {
    const { memory, clock, journal, said, addresses, take, holders } = await bench();
    await memory.create("Pod", {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "b", namespace: "a" },
      spec: { containers: [] },
    });
    const taken = await take("c1");
    await journal.put(attachmentOf(taken));
    addresses.confirm(attachmentOf(taken));
    await clock.advance(60_000);
    expect(await holders()).toContain("net.c1");
    const annotations = (await memory.get(POD))?.metadata.annotations ?? {};
    const writes: string[] = [];
    memory.setFault(({ verb, kind, phase }) => {
      if (phase === "request" && verb !== "get" && verb !== "list") writes.push(`${verb} ${kind}`);
      return undefined;
    });
    // What a daemon does that starts, when the watch has brought its pods.
    Object.assign(said, annotations);
    addresses.resume();
    await clock.advance(60_000);
    expect([writes, addresses.backlog]).toEqual([[], 0]);
    // The machine went down before the Pod was told, or somebody took it away; or it speaks of an earlier container.
    for (const [name, value] of [
      ["cni.projectcalico.org/podIP", undefined],
      ["cni.projectcalico.org/podIPs", ""],
      ["cni.projectcalico.org/containerID", "c0"],
    ] as const) {
      if (value === undefined) delete said[name];
      else said[name] = value;
      addresses.resume();
      await clock.advance(60_000);
      expect(writes.splice(0)).toEqual(["annotate Pod"]);
      Object.assign(said, annotations);
    }
  });

  test("an address whose block was deleted is recorded for the pod all the same", async () => {
    const { memory, clock, closed, addresses, take, holders } = await bench();
    const taken = await take("c1");
    for (const { metadata } of (await memory.list("IPAMBlock")).items)
      await memory.delete({ kind: "IPAMBlock", namespace: undefined, name: metadata.name });
    addresses.confirm(attachmentOf(taken));
    await clock.advance(60_000);
    expect([closed, addresses.backlog]).toEqual([[], 0]);
    expect(await holders()).toContain("net.c1");
  });

  test("a disk that keeps a record does not free the address under its next owner", async () => {
    let refuses = true;
    const files: Files = {
      ...openFiles(),
      remove: (path) => (refuses ? Promise.reject(new FileError("remove", path, "EROFS")) : openFiles().remove(path)),
    };
    const { clock, journal, addresses, take, holders } = await bench(files, { cidr: "fd00::7/128", blockSize: 128 });
    const first = await take("c1");
    await journal.put(attachmentOf(first));
    addresses.release(await journal.release(attachmentOf(first)));
    await clock.until(addresses.settled("c1", 1_000));
    const second = await take("c2");
    expect(second.addresses).toEqual(first.addresses);
    await journal.put(attachmentOf(second));
    // The datastore has not heard of the next owner yet, and the disk is tried again and again.
    await clock.advance(60_000);
    expect(await holders()).toEqual([RESERVE_RECORD]);
    addresses.confirm(attachmentOf(second));
    await clock.advance(60_000);
    expect(await holders()).toEqual(["net.c2"]);
    refuses = false;
    // Files take real time.
    for (let i = 0; addresses.backlog > 0 && i < 1_000; i++) await Promise.all([clock.advance(1_000), Bun.sleep(1)]);
    expect(journal.all().map(({ handle }) => handle)).toEqual(["net.c2"]);
    expect(await holders()).toEqual(["net.c2"]);
  });

  test("what a failed ADD and then its DEL release is freed once: the second time it is the next pod's", async () => {
    const { clock, reserve, journal, addresses, take, holders } = await bench(openFiles(), {
      cidr: "fd00::7/128",
      blockSize: 128,
    });
    const first = await take("c1");
    await journal.put(attachmentOf(first));
    const attachment = await journal.release(attachmentOf(first));
    addresses.release(attachment);
    addresses.release(attachment);
    // Files take real time.
    while (journal.get("c1", "eth0") !== undefined) await Promise.all([clock.advance(10), Bun.sleep(1)]);
    // It waits for the address, and then for its other family: the journal does not have it yet.
    const second = await take("c2");
    expect(second.addresses).toEqual(first.addresses);
    for (let i = 0; addresses.backlog > 0 && i < 1_000; i++) await Promise.all([clock.advance(1_000), Bun.sleep(1)]);
    expect([addresses.backlog, reserve.count(6), await holders()]).toEqual([0, 0, [RESERVE_RECORD]]);
  });

  test("what was taken and not recorded on disk is the reserve's again at once", async () => {
    const { addresses, reserve, take, holders } = await bench();
    const taken = await take("c1");
    const before = reserve.count(6);
    addresses.giveBack("c1", taken);
    expect([reserve.count(6), addresses.backlog, [...addresses.handles()]]).toEqual([before + 1, 0, []]);
    expect(await holders()).toEqual(Array.from({ length: before + 1 }, () => RESERVE_RECORD));
  });
});
