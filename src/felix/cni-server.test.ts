import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { openFiles } from "../host/bun/files.ts";
import { openRandom } from "../host/bun/random.ts";
import { openSockets } from "../host/bun/sockets.ts";
import { unwrap } from "../lib/result.ts";
import { EBUSY, EEXIST, KernelError } from "../kernel/errno.ts";
import { parseAddr } from "../net/addr.ts";
import type { CniAnswer, CniRequest } from "../podnet/protocol.ts";
import { CniServer } from "./cni-server.ts";
import type { AttachmentOptions } from "./pod-attachments.ts";
import { Journal } from "./journal.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync("/dev/shm/calico-cni-server-");
});
afterEach(() => rmSync(directory, { recursive: true }));

const ADDRESS = unwrap(parseAddr("10.0.0.1"));

/** A server whose surroundings take everything, but what `options` replaces; what it did, in words. */
async function bench(
  options: Partial<AttachmentOptions["wiring"]>,
  pipeline: Partial<AttachmentOptions["pipeline"]> = {},
) {
  const done: string[] = [];
  const journal = await Journal.open(openFiles(), `${directory}/journal`, () => {});
  const server = new CniServer({
    journal,
    random: openRandom(),
    report: (message, fields) => void done.push(`${message}: ${String(fields["error"])}`),
    pipeline: {
      inSync: true,
      status: "in-sync",
      datastoreErrors: [],
      refused: undefined,
      attach: () => {},
      attachSoon: () => Promise.resolve(),
      detach: (name) => void done.push(`detach ${name}`),
      readPod: () => Promise.resolve(undefined),
      isEndpoint: () => true,
      isProgrammed: () => true,
      settleEndpoint: () => Promise.resolve(true),
      explain: () => "",
      ...pipeline,
    },
    addresses: {
      settled: () => Promise.resolve(true),
      confirm: () => {},
      releaseHandle: () => {},
      take: ({ containerId }) =>
        Promise.resolve({ addresses: [ADDRESS], handle: `net.${containerId}`, assignedAt: "", assigned: false }),
      giveBack: () => void done.push("give back"),
      release: ({ record, state }) => void done.push(`release ${record.containerId} ${state}`),
    },
    wiring: { add: () => {}, remove: () => {}, check: () => [], automaticMtuBytes: () => 1500, ...options },
    requests: {
      read: () =>
        Promise.resolve({
          network: "net",
          families: [4],
          requests: { addresses: undefined, ipv4Pools: undefined, ipv6Pools: undefined },
          namespaceLabels: {},
          uid: undefined,
          mtuBytes: undefined,
          mac: undefined,
        }),
      warn: () => {},
    },
  });
  const path = `${directory}/cni.sock`;
  const listener = await server.listen(openSockets(), path);
  const ask = async (command: CniRequest["command"], containerId: string, config: object = {}): Promise<CniAnswer> => {
    const connection = await openSockets().connect(path);
    const request = {
      command,
      plugin: "calico",
      containerId,
      netns: "/run/netns/x",
      interface: "eth0",
      args: { K8S_POD_NAMESPACE: "a", K8S_POD_NAME: containerId },
      config: { name: "net", ...config },
    };
    await connection.write(new TextEncoder().encode(`${JSON.stringify(request)}\n`));
    let text = "";
    for await (const chunk of connection.input) text += new TextDecoder().decode(chunk);
    connection.end();
    return JSON.parse(text) as CniAnswer;
  };
  return { done, journal, ask, close: () => listener.close() };
}

const refuse = (op: string, errno: number) => (): never => {
  throw new KernelError(op, "x", errno);
};

test("a failed ADD answers the first error, and gives the addresses back although the interface cannot be removed, which DEL tries again", async () => {
  const { done, ask, close, journal } = await bench({
    add: refuse("add link", EEXIST),
    remove: refuse("remove link", EBUSY),
  });
  expect(await ask("ADD", "c1")).toEqual({
    ok: false,
    error: { code: 101, msg: "ADD of container c1 failed", details: "Cannot add link x: EEXIST (file exists)" },
  });
  const [{ record } = { record: { interface: "" } }] = journal.all();
  expect(done).toEqual([
    `detach ${record.interface}`,
    expect.stringContaining("cannot undo a failed ADD: DEL will: Cannot remove link x: EBUSY"),
    "release c1 releasing",
  ]);
  expect(await ask("DEL", "c1")).toMatchObject({
    ok: false,
    error: { msg: "DEL of container c1 failed", details: expect.stringContaining("Cannot remove link x: EBUSY") },
  });
  await close();
});

test("an MTU that cannot be read costs no address, and leaves no record", async () => {
  const { done, ask, close } = await bench({ automaticMtuBytes: refuse("list", EBUSY) });
  expect(await ask("ADD", "c1")).toMatchObject({
    ok: false,
    error: { details: expect.stringContaining("Cannot list x: EBUSY") },
  });
  expect([done, readdirSync(`${directory}/journal`)]).toEqual([[], []]);
  await close();
});

test("GC goes on over what cannot be taken down, and answers it at the end", async () => {
  const { done, ask, close } = await bench({
    remove: ({ record }) => void (record.containerId === "c2" && refuse("remove link", EBUSY)()),
  });
  for (const container of ["c1", "c2", "c3", "c4"]) expect((await ask("ADD", container)).ok).toBe(true);
  const answer = await ask("GC", "", { "cni.dev/valid-attachments": [{ containerID: "c4", ifname: "eth0" }] });
  expect(answer).toEqual({
    ok: false,
    error: {
      code: 101,
      msg: "GC of network net could not take down 1 attachments",
      details: expect.stringContaining("container c2: Cannot remove link x: EBUSY") as unknown as string,
    },
  });
  expect(done.filter((line) => line.startsWith("release"))).toEqual(["release c1 releasing", "release c3 releasing"]);
  await close();
});

test("ADD of a pod whose policy the kernel refuses fails at once with the reason, and gives everything back", async () => {
  const { ask, done, close } = await bench(
    {},
    {
      settleEndpoint: () => Promise.resolve(false),
      explain: () => "nftables: policy a/web: Cannot add set: ENOMEM",
      readPod: () => Promise.reject(new Error("the Pod is known")),
    },
  );
  expect(await ask("ADD", "c1")).toMatchObject({
    ok: false,
    error: {
      msg: "rules of pod a/c1 are not in the kernel: the pod stays closed",
      details: "nftables: policy a/web: Cannot add set: ENOMEM",
    },
  });
  expect(done.some((line) => line.startsWith("detach cali"))).toBe(true);
  expect(done).toContain("release c1 releasing");
  await close();
});

test("ADD sets no host end up while the kernel cannot be programmed, and gives everything back", async () => {
  const { ask, done, close } = await bench(
    { add: () => void done.push("set up") },
    { refused: "nftables: Cannot read table inet calico: ENOBUFS" },
  );
  expect(await ask("ADD", "c1")).toMatchObject({
    ok: false,
    error: {
      msg: "calico node cannot program the kernel: the pod gets no interface",
      details: "nftables: Cannot read table inet calico: ENOBUFS",
    },
  });
  expect(done).not.toContain("set up");
  expect(done).toContain("release c1 releasing");
  await close();
});

test("an ADD alone is programmed at once, those that come at the same time together", async () => {
  const calls: string[] = [];
  const { ask, close } = await bench(
    {},
    {
      attach: () => void calls.push("at once"),
      attachSoon: () => {
        calls.push("together");
        return Promise.resolve();
      },
    },
  );
  await ask("ADD", "c1");
  await Promise.all(["c2", "c3", "c4"].map((container) => ask("ADD", container)));
  await ask("ADD", "c5");
  expect([calls.at(0), calls.at(1), calls.at(-1)]).toEqual(["at once", "together", "at once"]);
  await close();
});
