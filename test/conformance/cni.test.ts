/**
 * The CNI contract, spoken by hand to the installed plugin on a node without a kubelet: versions, repetition, failure, checks, reuse of
 * addresses, and a daemon that is killed again and again meanwhile.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { dataplaneEnvironment } from "../dataplane.ts";
import { BareNode } from "./bare-node.ts";
import { CALICO, execute, Lab, type LabNode, list, namespace, type Output, until } from "./fixture.ts";
import { countDropped } from "./rules.ts";
import { addressesIn as addresses, type Answer, Runtime } from "./runtime.ts";

const lab = new Lab();
const NS = "cni";
const PODS = Array.from({ length: 40 }, (_, i) => `pod-${i}`);
const bare = new BareNode(lab);
const runtime = new Runtime(lab, bare, NS);
const netns = runtime.netns.bind(runtime);
const cni = runtime.cni.bind(runtime);
const pod = runtime.pod.bind(runtime);
const recorded = runtime.recorded.bind(runtime);
const hostInterfaces = runtime.hostInterfaces.bind(runtime);
let node: LabNode;

beforeAll(async () => {
  await lab.up("--dual-stack", "--nodes", "1");
  await bare.up();
  node = bare.asNode;
  await lab.apply(list(namespace(NS), ...PODS.map((name) => pod(name))));
}, 180_000);

afterAll(async () => {
  await runtime.down();
  await bare.down();
  await lab.down();
}, 60_000);

describe("versions", () => {
  test("VERSION names what is supported", async () => {
    expect((await cni("VERSION", "", "", "")).answer).toEqual({
      cniVersion: "1.1.0",
      supportedVersions: ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    });
  });

  test("another version is refused with code 1, naming it", async () => {
    const { exitCode, answer } = await cni("ADD", "v", "/run/netns/none", "pod-0", { version: "2.0.0" });
    expect(exitCode).toBe(1);
    expect(answer).toMatchObject({
      code: 1,
      msg: 'network configuration field cniVersion is "2.0.0", must be one of 0.3.1, 0.4.0, 1.0.0, 1.1.0',
    });
  });

  for (const version of ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]) {
    test(`ADD answers in the format of ${version}`, async () => {
      const path = await netns(`v${version}`);
      const added = await cni("ADD", `v-${version}`, path, "pod-1", { version });
      expect(added.exitCode).toBe(0);
      expect(added.answer["cniVersion"]).toBe(version);
      expect(added.answer.ips?.map((ip) => ip.version)).toEqual(
        version.startsWith("0.") ? ["4", "6"] : [undefined, undefined],
      );
      expect(added.answer["interfaces"]).toMatchObject([{ mac: "ee:ee:ee:ee:ee:ee" }, { name: "eth0", sandbox: path }]);
      expect((await cni("DEL", `v-${version}`, path, "pod-1", { version })).exitCode).toBe(0);
    });
  }
});

describe("repetition and failure", () => {
  test("ADD twice gives the same answer; one DEL frees all; DEL of what is gone succeeds", async () => {
    const before = await recorded();
    const path = await netns("twice");
    const first = await cni("ADD", "twice", path, "pod-2");
    expect(addresses(first).length).toBe(2);
    expect(await cni("ADD", "twice", path, "pod-2")).toEqual(first);
    expect(await recorded()).toBe(before + 2);
    expect((await cni("CHECK", "twice", path, "pod-2", { config: { prevResult: first.answer } })).exitCode).toBe(0);
    for (const where of [path, "", ""]) expect((await cni("DEL", "twice", where, "pod-2")).exitCode).toBe(0);
    expect(await recorded()).toBe(before);
    expect((await cni("CHECK", "twice", path, "pod-2")).answer.code).toBe(3);
  });

  test("ADD into a namespace that does not exist fails and leaves nothing", async () => {
    const before = { recorded: await recorded(), interfaces: await hostInterfaces(), journal: runtime.journal() };
    const failed = await cni("ADD", "nowhere", "/run/netns/does-not-exist", "pod-3");
    expect(failed.exitCode).toBe(1);
    expect(failed.answer.details).toContain("/run/netns/does-not-exist");
    expect({ recorded: await recorded(), interfaces: await hostInterfaces(), journal: runtime.journal() }).toEqual(
      before,
    );
  });

  test("ADD for a Pod that the datastore does not have asks to try again and leaves nothing", async () => {
    const before = await recorded();
    const failed = await cni("ADD", "unknown", await netns("unknown"), "no-such-pod");
    expect(failed.answer).toMatchObject({
      code: 11,
      msg: "pod cni/no-such-pod does not exist in the datastore: its policy cannot be known",
    });
    expect(await recorded()).toBe(before);
  });

  test("CHECK compares the kernel, and a repeated ADD repairs it", async () => {
    const path = await netns("check");
    const added = await cni("ADD", "check", path, "pod-4");
    const [four = ""] = addresses(added);
    await execute(["nsenter", `--net=${path}`, "--", "ip", "addr", "del", four, "dev", "eth0"]);
    const broken = await cni("CHECK", "check", path, "pod-4");
    expect(broken.exitCode).toBe(1);
    expect(broken.answer.code).toBe(100);
    expect(broken.answer.details).toContain(four.replace("/32", ""));
    expect(addresses(await cni("ADD", "check", path, "pod-4"))).toEqual(addresses(added));
    expect((await cni("CHECK", "check", path, "pod-4")).exitCode).toBe(0);
    await cni("DEL", "check", path, "pod-4");
  });

  test("a missing variable is named", async () => {
    const { answer } = await cni("ADD", "", "/run/netns/x", "pod-5");
    expect(answer).toMatchObject({ code: 4, msg: "environment variable CNI_CONTAINERID is missing, ADD needs it" });
  });

  test("a newer container of the same pod takes the interface over; the older one's DEL frees only its own", async () => {
    const before = await recorded();
    const old = await netns("old");
    const young = await netns("young");
    const first = await cni("ADD", "old", old, "pod-6");
    const second = await cni("ADD", "young", young, "pod-6");
    expect(second.exitCode).toBe(0);
    expect(addresses(second)).not.toEqual(addresses(first));
    expect((await cni("CHECK", "old", old, "pod-6")).answer).toMatchObject({
      code: 100,
      details: "container young of the same pod took its place",
    });
    await cni("DEL", "old", old, "pod-6");
    expect((await cni("CHECK", "young", young, "pod-6")).exitCode).toBe(0);
    expect(await recorded()).toBe(before + 2);
    await cni("DEL", "young", young, "pod-6");
    expect(await recorded()).toBe(before);
  });
});

describe("what reaches the socket", () => {
  /** One request by hand, as no plugin would send it; the answer as text. */
  async function say(text: string): Promise<string> {
    let answer = "";
    let rest = Buffer.from(text);
    const closed = Promise.withResolvers<void>();
    const more = (socket: { write(bytes: Uint8Array): number }): void =>
      void (rest = rest.subarray(Math.max(0, socket.write(rest))));
    await Bun.connect({
      unix: bare.socket,
      socket: {
        open: more,
        drain: (socket) => void (rest.length > 0 && more(socket)),
        data: (_, bytes) => void (answer += bytes.toString()),
        close: () => closed.resolve(),
        error: () => closed.resolve(),
      },
    });
    await closed.promise;
    return answer;
  }

  const request = {
    command: "ADD",
    plugin: "calico",
    containerId: "x",
    netns: "/run/netns/x",
    interface: "eth0",
    args: {},
    config: {},
  };
  const garbage: readonly (readonly [string, string, string])[] = [
    ["null", "null\n", "request must be an object"],
    ["a number", "5\n", "request must be an object"],
    ["a list", "[]\n", "request must be an object"],
    ["no JSON", "what?\n", "request is not one line of JSON"],
    ["no fields", "{}\n", "request field command is missing"],
    [
      "an unknown command",
      JSON.stringify({ ...request, command: "MOVE" }) + "\n",
      'request field command is \\"MOVE\\", must be one of ADD, DEL, CHECK, STATUS, GC',
    ],
    [
      "a container id with a path",
      JSON.stringify({ ...request, containerId: "../x" }) + "\n",
      'container id is \\"../x\\", must be a letter or digit, then letters, digits',
    ],
    [
      "an interface name with a path",
      JSON.stringify({ ...request, interface: "a/b" }) + "\n",
      'interface name is \\"a/b\\", must be at most 15 bytes without',
    ],
    [
      "a network name with a space",
      JSON.stringify({ ...request, command: "DEL", config: { name: "a b" } }) + "\n",
      'network configuration field name is \\"a b\\", must be a letter or digit',
    ],
    [
      "a number for a container",
      JSON.stringify({ ...request, containerId: 7 }) + "\n",
      "request field containerId is 7, must be a string",
    ],
    [
      "a list for arguments",
      JSON.stringify({ ...request, args: [] }) + "\n",
      "request field args is [], must be an object",
    ],
    ["a line without end", "x".repeat((1 << 20) + 1), "request is longer than 1048576 bytes"],
  ];
  for (const [name, text, answer] of garbage) {
    test(`${name} is refused with a message, and the daemon survives`, async () => {
      const before = bare.asNode.pid;
      expect(await say(text)).toContain(answer);
      expect((await cni("STATUS", "", "", "")).exitCode).toBe(0);
      expect(bare.asNode.pid).toBe(before);
    });
  }
});

describe("names", () => {
  for (const [container, field] of [
    ["-x", "CNI_CONTAINERID"],
    ["a/b", "CNI_CONTAINERID"],
    ["a b", "CNI_CONTAINERID"],
  ] as const) {
    test(`container id ${JSON.stringify(container)} is refused with code 4`, async () => {
      for (const command of ["ADD", "CHECK", "DEL"]) {
        expect((await cni(command, container, "/run/netns/x", "pod-5")).answer).toMatchObject({
          code: 4,
          msg: `environment variable ${field} is ${JSON.stringify(container)}, must be a letter or digit, then letters, digits, "_", "." and "-"`,
        });
      }
    });
  }

  for (const name of ["a/b", "a:b", "a b", ".", "..", "sixteen-bytes-xx"]) {
    test(`interface name ${JSON.stringify(name)} is refused with code 4`, async () => {
      expect((await cni("ADD", "named", "/run/netns/x", "pod-5", { interface: name })).answer).toMatchObject({
        code: 4,
        msg: `environment variable CNI_IFNAME is ${JSON.stringify(name)}, must be at most 15 bytes without "/", ":" and white space, and not "." or ".."`,
      });
    });
  }

  test("a network name is refused with code 7", async () => {
    for (const name of ["", "-x", "a/b"]) {
      expect((await cni("ADD", "named", "/run/netns/x", "pod-5", { config: { name } })).answer).toMatchObject({
        code: 7,
        msg: `network configuration field name is ${JSON.stringify(name)}, must be a letter or digit, then letters, digits, "_", "." and "-"`,
      });
    }
  });
});

describe("a pod whose host end would have another pod's name", () => {
  // SHA-1 of `cni.v-3532534` and of `mallory.a-12741714` begin with the same 44 bits: found by trying names for half a minute.
  const victim = { namespace: NS, name: "v-3532534" };
  const attacker = { namespace: "mallory", name: "a-12741714" };
  const shared = "calid71d570c84a";
  const hostEnd = (answer: Answer): string => (answer.answer["interfaces"] as { name: string }[])[0]?.name ?? "";

  test("gets another one: both have their own interface and addresses, through a restart and each other's end", async () => {
    await lab.apply(list(namespace("mallory"), pod(victim.name), pod(attacker.name, {}, "mallory")));
    const [victimPath, attackerPath] = [await netns("victim"), await netns("attacker")];
    const theirs = await cni("ADD", "victim", victimPath, victim.name);
    const own = await cni("ADD", "attacker", attackerPath, attacker.name, { namespace: "mallory" });
    expect([theirs.exitCode, own.exitCode, hostEnd(theirs)]).toEqual([0, 0, shared]);
    expect(hostEnd(own)).toMatch(/^cali[0-9a-f]{11}$/);
    expect(hostEnd(own)).not.toBe(shared);
    const expectBothLive = async (): Promise<void> => {
      for (const [path, answer] of [
        [victimPath, theirs],
        [attackerPath, own],
      ] as const) {
        for (const address of addresses(answer)) {
          const [plain = ""] = address.split("/");
          expect((await lab.inNode(node, "ip", "route", "get", plain)).stdout).toContain(` dev ${hostEnd(answer)} `);
          expect((await execute(["nsenter", `--net=${path}`, "--", "ip", "address", "show", "eth0"])).stdout).toContain(
            `${address} `,
          );
          expect((await lab.inNode(node, "ping", "-c", "1", "-W", "2", plain)).exitCode).toBe(0);
        }
      }
      expect((await cni("CHECK", "victim", victimPath, victim.name)).exitCode).toBe(0);
      expect((await cni("CHECK", "attacker", attackerPath, attacker.name, { namespace: "mallory" })).exitCode).toBe(0);
    };
    await expectBothLive();
    await bare.kill();
    await bare.start();
    await expectBothLive();
    expect(await cni("ADD", "attacker", attackerPath, attacker.name, { namespace: "mallory" })).toEqual(own);
    await cni("DEL", "attacker", attackerPath, attacker.name, { namespace: "mallory" });
    expect((await cni("CHECK", "victim", victimPath, victim.name)).exitCode).toBe(0);
    await cni("DEL", "victim", victimPath, victim.name);
    // Free again, the name is whose turn it is.
    const later = await netns("attacker-later");
    expect(hostEnd(await cni("ADD", "attacker-later", later, attacker.name, { namespace: "mallory" }))).toBe(shared);
    await cni("DEL", "attacker-later", later, attacker.name, { namespace: "mallory" });
  }, 60_000);

  test("is not taken for it when both start at once", async () => {
    const [victimPath, attackerPath] = [await netns("victim-once"), await netns("attacker-once")];
    const both = await Promise.all([
      cni("ADD", "victim-once", victimPath, victim.name),
      cni("ADD", "attacker-once", attackerPath, attacker.name, { namespace: "mallory" }),
    ]);
    expect(both.map(({ exitCode }) => exitCode)).toEqual([0, 0]);
    expect(new Set(both.map(hostEnd)).size).toBe(2);
    await cni("DEL", "victim-once", victimPath, victim.name);
    expect((await cni("CHECK", "attacker-once", attackerPath, attacker.name, { namespace: "mallory" })).exitCode).toBe(
      0,
    );
    await cni("DEL", "attacker-once", attackerPath, attacker.name, { namespace: "mallory" });
  });
});

describe("a pod of the same name", () => {
  const uidOf = (name: string): Promise<string> =>
    lab.must("get", "pod", "-n", NS, name, "-o", "jsonpath={.metadata.uid}");

  test("is the Pod that the runtime means, by its uid", async () => {
    const path = await netns("uid");
    const uid = await uidOf("pod-36");
    const refused = await cni("ADD", "uid", path, "pod-36", { args: "K8S_POD_UID=0123" });
    expect(refused.answer).toMatchObject({
      code: 11,
      msg: `pod cni/pod-36 has uid ${uid} in the datastore, and K8S_POD_UID is 0123: that pod was deleted`,
    });
    expect((await cni("ADD", "uid", path, "pod-36", { args: `K8S_POD_UID=${uid}` })).exitCode).toBe(0);
    await cni("DEL", "uid", path, "pod-36");
  });

  test("that replaces it inherits nothing: the old one is closed when its Pod is gone, and makes way", async () => {
    const [old, young] = [await netns("uid-old"), await netns("uid-young")];
    const first = await cni("ADD", "uid-old", old, "pod-37", { args: `K8S_POD_UID=${await uidOf("pod-37")}` });
    await lab.must("delete", "pod", "-n", NS, "pod-37", "--force", "--grace-period=0");
    await lab.apply(list(pod("pod-37")));
    await until("the old pod to be closed", async () =>
      (await cni("CHECK", "uid-old", old, "pod-37")).answer.details?.includes("is not an endpoint"),
    );
    const second = await cni("ADD", "uid-young", young, "pod-37", { args: `K8S_POD_UID=${await uidOf("pod-37")}` });
    expect(second.exitCode).toBe(0);
    expect(addresses(second)).not.toEqual(addresses(first));
    expect((await cni("CHECK", "uid-old", old, "pod-37")).answer).toMatchObject({
      code: 100,
      details: "container uid-young of the same pod took its place",
    });
    await cni("DEL", "uid-old", old, "pod-37");
    expect((await cni("CHECK", "uid-young", young, "pod-37")).exitCode).toBe(0);
    await cni("DEL", "uid-young", young, "pod-37");
  });
});

describe("an address that another one has", () => {
  test("closes the pod, reports it in an Event, by CHECK and across a restart, and DEL leaves the other owner's", async () => {
    const before = await runtime.recordedAddresses();
    const path = await netns("loser");
    const [four = ""] = addresses(await cni("ADD", "loser", path, "pod-38"));
    await recorded();
    await bare.kill();
    // As after a datastore that was put back to an older state: somebody else has got the address.
    const blocks = JSON.parse(await lab.must("get", "ipamblocks", "-o", "json")) as {
      items: { metadata: object; spec: { attributes: { handle_id?: string; secondary?: Record<string, string> }[] } }[];
    };
    const block = blocks.items.find(
      ({ metadata, spec }) =>
        JSON.stringify(metadata).includes("10-") &&
        spec.attributes.some(({ handle_id: handle }) => handle === "k8s-pod-network.loser"),
    );
    for (const attributes of block?.spec.attributes ?? [])
      if (attributes.handle_id === "k8s-pod-network.loser")
        Object.assign(attributes, { handle_id: "other.winner", secondary: { node: "elsewhere" } });
    const replaced = await execute(["kubectl", "replace", "-f", "-"], {
      input: JSON.stringify(block),
      env: { KUBECONFIG: lab.kubeconfig },
    });
    expect([replaced.exitCode, replaced.stderr]).toEqual([0, ""]);
    await bare.start();
    const why = `Cannot move ${four.replace("/32", "")} from handle "reserve:bare" to "k8s-pod-network.loser": handle "other.winner" holds it`;
    const closed = await until("the pod to be closed", async () => {
      const { answer } = await cni("CHECK", "loser", path, "pod-38");
      return answer.details === why && answer;
    });
    expect(closed).toMatchObject({ code: 100, msg: "container loser has lost its interface" });
    expect((await lab.inNode(node, "ip", "route", "show", four.replace("/32", ""))).stdout).toBe("");
    await until("the Event", async () =>
      (
        await lab.must(
          "get",
          "events",
          "-n",
          NS,
          "-o",
          "jsonpath={range .items[*]}{.reason} {.involvedObject.name} {.message}{'\\n'}{end}",
        )
      ).includes(`AddressConflict pod-38 The pod is closed and must be deleted: ${why}`),
    );
    await until("the Pod to say that it has no address", async () =>
      (await lab.must("get", "pod", "-n", NS, "pod-38", "-o", "json")).includes('"cni.projectcalico.org/podIPs": ""'),
    );
    await bare.kill();
    await bare.start();
    expect((await cni("CHECK", "loser", path, "pod-38")).answer.details).toBe(why);
    expect((await cni("ADD", "loser", path, "pod-38")).answer).toMatchObject({
      code: 101,
      msg: `container loser has lost its interface and needs DEL: ${why}`,
    });
    await cni("DEL", "loser", path, "pod-38");
    expect(await runtime.recordedAddresses()).toEqual([...before, four].sort());
  }, 60_000);
});

describe("GC", () => {
  const gc = (valid: unknown, config: object = {}): Promise<Answer> =>
    cni("GC", "", "", "", { config: { "cni.dev/valid-attachments": valid, ...config } });

  test("takes down what is not in the list, of this network alone", async () => {
    const before = await recorded();
    const paths: string[] = [];
    for (const name of ["gc-keep", "gc-stale", "gc-other"]) paths.push(await netns(name));
    const [keep = "", stale = "", other = ""] = paths;
    expect((await cni("ADD", "gc-keep", keep, "pod-10")).exitCode).toBe(0);
    expect((await cni("ADD", "gc-stale", stale, "pod-11")).exitCode).toBe(0);
    expect((await cni("ADD", "gc-other", other, "pod-12", { config: { name: "other-network" } })).exitCode).toBe(0);
    expect(
      await gc([
        { containerID: "gc-keep", ifname: "eth0" },
        { containerID: "gc-stale", ifname: "eth9" },
      ]),
    ).toEqual({ exitCode: 0, answer: {} });
    expect(await recorded()).toBe(before + 4);
    expect((await cni("CHECK", "gc-keep", keep, "pod-10")).exitCode).toBe(0);
    expect((await cni("CHECK", "gc-other", other, "pod-12")).exitCode).toBe(0);
    expect((await cni("CHECK", "gc-stale", stale, "pod-11")).answer.code).toBe(3);
    expect((await gc([], { name: "other-network" })).exitCode).toBe(0);
    expect((await gc([])).exitCode).toBe(0);
    expect(await recorded()).toBe(before);
  });

  test("without a list, or with one that cannot be read, takes nothing down", async () => {
    const path = await netns("gc-list");
    await cni("ADD", "gc-list", path, "pod-13");
    for (const valid of [undefined, null, {}, "x", ["gc-list"], [{ containerID: "gc-list" }]]) {
      expect((await gc(valid)).answer).toMatchObject({
        code: 7,
        msg: expect.stringContaining("network configuration field cni.dev/valid-attachments is "),
      });
    }
    expect((await cni("CHECK", "gc-list", path, "pod-13")).exitCode).toBe(0);
    await cni("DEL", "gc-list", path, "pod-13");
  });
});

describe("interfaces and restarts", () => {
  test("a second interface of a pod is refused by name, and the first one stays whole", async () => {
    const path = await netns("second");
    const first = await cni("ADD", "second", path, "pod-31");
    const { exitCode, stdout } = await execute([`${node.cniBinDir}/calico`], {
      input: JSON.stringify({
        cniVersion: "1.1.0",
        name: "k8s-pod-network",
        type: "calico",
        daemon_socket: bare.socket,
        ipam: { type: "calico-ipam" },
      }),
      env: {
        CNI_COMMAND: "ADD",
        CNI_CONTAINERID: "second",
        CNI_NETNS: path,
        CNI_IFNAME: "eth1",
        CNI_ARGS: `K8S_POD_NAMESPACE=${NS};K8S_POD_NAME=pod-31`,
      },
    });
    expect(exitCode).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({
      code: 4,
      msg: 'CNI_IFNAME is "eth1", but pod cni/pod-31 has interface eth0 already, and can have one only',
    });
    expect((await cni("CHECK", "second", path, "pod-31")).exitCode).toBe(0);
    expect(addresses(await cni("ADD", "second", path, "pod-31"))).toEqual(addresses(first));
    await cni("DEL", "second", path, "pod-31");
  });

  test("a daemon that starts again with nothing changed writes nothing to the datastore", async () => {
    const path = await netns("quiet");
    await cni("ADD", "quiet", path, "pod-32");
    const revisions = async (): Promise<string> => {
      await recorded();
      return lab.must(
        "get",
        "ipamblocks,ipamhandles,blockaffinities",
        "-o",
        "jsonpath={range .items[*]}{.metadata.name}@{.metadata.resourceVersion} {end}",
      );
    };
    const before = await revisions();
    await bare.kill();
    await bare.start();
    expect(await revisions()).toBe(before);
    await cni("DEL", "quiet", path, "pod-32");
  });

  test("mtu 0 is the MTU of the node's own interface", async () => {
    const namespaceName = bare.path.slice(bare.path.lastIndexOf("/") + 1);
    await execute(["ip", "-n", namespaceName, "link", "set", "eth0", "mtu", "1400"]);
    try {
      const path = await netns("mtu");
      await cni("ADD", "mtu", path, "pod-33");
      expect((await execute(["nsenter", `--net=${path}`, "--", "ip", "-o", "link", "show", "eth0"])).stdout).toContain(
        " mtu 1400 ",
      );
      expect((await cni("CHECK", "mtu", path, "pod-33")).exitCode).toBe(0);
      await cni("DEL", "mtu", path, "pod-33");
    } finally {
      await execute(["ip", "-n", namespaceName, "link", "set", "eth0", "mtu", "1500"]);
    }
  });
});

describe("a kernel that refuses", () => {
  test("STATUS reports it, ADD fails and leaves nothing, and both recover when the kernel accepts", async () => {
    const before = await recorded();
    // Another process owns a table of our name (NFT_TABLE_F_OWNER): nobody else may change it while that process lives. While the daemon does, it is the owner.
    await bare.kill();
    const owner = Bun.spawn(["nsenter", `--net=${bare.path}`, "--", "nft", "-i"], {
      stdin: "pipe",
      stdout: "ignore",
      stderr: "ignore",
    });
    try {
      owner.stdin.write("delete table inet calico\nadd table inet calico { flags owner; }\n");
      await owner.stdin.flush();
      await until("the table to be owned", async () =>
        (await lab.inNode(node, "nft", "list", "table", "inet", "calico")).stdout.includes("flags owner"),
      );
      bare.environment = dataplaneEnvironment("nftables");
      await bare.start();
      const path = await netns("refused");
      const added = await cni("ADD", "refused", path, "pod-34");
      expect(added.exitCode).toBe(1);
      expect(added.answer.details).toMatch(
        /nftables: .*Cannot change table inet calico: EPERM .*: another process owns the table/,
      );
      const status = await cni("STATUS", "", "", "");
      expect(status.answer).toMatchObject({
        code: 50,
        msg: "calico node cannot program the kernel: new pods would stay closed",
      });
      expect(await recorded()).toBe(before);
    } finally {
      owner.kill("SIGKILL");
      await owner.exited;
    }
    await until("STATUS to be well again", async () => (await cni("STATUS", "", "", "")).exitCode === 0);
    const path = await netns("taken");
    expect((await cni("ADD", "taken", path, "pod-35")).exitCode).toBe(0);
    await cni("DEL", "taken", path, "pod-35");
    await bare.kill();
    bare.environment = {};
    await bare.start();
  }, 90_000);
});

describe("calico-ipam alone", () => {
  test("assigns and releases addresses without an interface", async () => {
    const before = await recorded();
    const added = await cni("ADD", "ipam", "/run/netns/any", "pod-7", { plugin: "calico-ipam" });
    expect(added.exitCode).toBe(0);
    expect(added.answer["interfaces"]).toEqual([]);
    expect(addresses(added).length).toBe(2);
    expect(await recorded()).toBe(before + 2);
    expect((await cni("DEL", "ipam", "", "pod-7", { plugin: "calico-ipam" })).exitCode).toBe(0);
    expect(await recorded()).toBe(before);
  });
});

describe("what a Pod asks for", () => {
  test("a fixed address of each family and a MAC", async () => {
    await lab.apply(
      list(
        pod("fixed", {
          "cni.projectcalico.org/ipAddrs": '["10.65.200.7", "fd00:65::7"]',
          "cni.projectcalico.org/hwAddr": "02:00:00:00:00:07",
        }),
      ),
    );
    const path = await netns("fixed");
    const added = await cni("ADD", "fixed", path, "fixed");
    expect(addresses(added)).toEqual(["10.65.200.7/32", "fd00:65::7/128"]);
    expect(added.answer["interfaces"]).toMatchObject([{}, { mac: "02:00:00:00:00:07" }]);
    await cni("DEL", "fixed", path, "fixed");
  });

  test("a pool by name; one that does not exist is named and nothing is kept", async () => {
    const pool = {
      apiVersion: "projectcalico.org/v3",
      kind: "IPPool",
      metadata: { name: "special" },
      spec: { cidr: "10.77.0.0/24", blockSize: 28, nodeSelector: "!all()" },
    };
    await lab.apply(
      list(
        pool,
        pod("pooled", { "cni.projectcalico.org/ipv4pools": '["special"]' }),
        pod("astray", { "cni.projectcalico.org/ipv4pools": '["none"]' }),
      ),
    );
    const path = await netns("pooled");
    const added = await cni("ADD", "pooled", path, "pooled");
    expect(addresses(added)[0]).toStartWith("10.77.0.");
    await cni("DEL", "pooled", path, "pooled");
    const before = await recorded();
    const failed = await cni("ADD", "astray", await netns("astray"), "astray");
    expect(failed.answer.details).toContain('IPPool "none", which was requested, does not exist');
    expect(await recorded()).toBe(before);
    await lab.must("delete", "ippool", "special");
  });

  test("an annotation that is malformed is taken by the API, as Kubernetes does, and refused by ADD, naming it", async () => {
    await lab.apply(list(pod("senseless", { "cni.projectcalico.org/ipAddrs": "10.65.0.1" })));
    const { answer } = await cni("ADD", "senseless", await netns("senseless"), "senseless");
    expect(answer.code).toBe(7);
    expect(answer.msg).toContain(
      'metadata.annotations[cni.projectcalico.org/ipAddrs]: Invalid value: "10.65.0.1": must be a JSON list of addresses',
    );
  });
});

describe("an address used again right after DEL", () => {
  for (const family of [4, 6] as const) {
    test(`does not inherit the flow that its last owner had (IPv${family})`, async () => {
      const fixed = family === 4 ? "10.65.210.9" : "fd00:65::210:9";
      const names = [`before-${family}`, `after-${family}`];
      const deny = {
        apiVersion: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        metadata: { name: `after-${family}`, namespace: NS },
        spec: { podSelector: { matchLabels: { app: `after-${family}` } }, policyTypes: ["Ingress"] },
      };
      await lab.apply(
        list(deny, ...names.map((name) => pod(name, { "cni.projectcalico.org/ipAddrs": JSON.stringify([fixed]) }))),
      );
      const talker = await netns(`talker-${family}`);
      const first = await netns(`before-${family}`);
      const second = await netns(`after-${family}`);
      expect((await cni("ADD", `talker-${family}`, talker, "pod-8")).exitCode).toBe(0);
      expect((await cni("ADD", `before-${family}`, first, `before-${family}`)).exitCode).toBe(0);
      const kind = family === 4 ? "UDP4" : "UDP6";
      const target = family === 4 ? fixed : `[${fixed}]`;
      const echo = Bun.spawn(["nsenter", `--net=${first}`, "--", "socat", `${kind}-RECVFROM:6000,fork`, "EXEC:cat"], {
        stdout: "ignore",
        stderr: "ignore",
      });
      const say = (patienceSeconds: number): Promise<{ stdout: string }> =>
        execute(
          [
            "nsenter",
            `--net=${talker}`,
            "--",
            "socat",
            "-t",
            `${patienceSeconds}`,
            "-",
            `${kind}-SENDTO:${target}:6000,bind=:6001,reuseaddr`,
          ],
          { input: "hello\n" },
        );
      // Longer each time, for a machine that is busy: it waits so long whether or not the answer has come.
      let patienceSeconds = 0.1;
      await until("an answered flow", async () => {
        patienceSeconds = Math.min(2 * patienceSeconds, 5);
        return (await say(patienceSeconds)).stdout.includes("hello");
      });
      echo.kill();
      expect((await cni("DEL", `before-${family}`, first, `before-${family}`)).exitCode).toBe(0);
      expect((await cni("ADD", `after-${family}`, second, `after-${family}`)).exitCode).toBe(0);
      const heard = Bun.spawn(["nsenter", `--net=${second}`, "--", "socat", "-u", `${kind}-RECV:6000`, "STDOUT"], {
        stdout: "pipe",
        stderr: "ignore",
      });
      const drops = (): Promise<number> => countDropped(lab, node, "ingress no rule of tier default matched");
      const before = await drops();
      await until("the packets of the old flow to be dropped", async () => {
        await say(0.2);
        return (await drops()) > before;
      });
      heard.kill();
      expect(await new Response(heard.stdout).text()).toBe("");
      await cni("DEL", `after-${family}`, second, `after-${family}`);
      await cni("DEL", `talker-${family}`, talker, "pod-8");
      await lab.must("delete", "networkpolicy", "-n", NS, `after-${family}`);
    }, 60_000);
  }
});

describe("a daemon that is killed meanwhile", () => {
  test("pods start and stop under kill -9: no address is assigned twice or lost, and STATUS is right", async () => {
    const before = await recorded();
    const held = new Map<string, readonly string[]>();
    let kills = 0;
    let working = true;
    const killer = (async () => {
      while (working) {
        // One more pod is wired, and the next one's ADD is under way.
        const before = held.size;
        await until("one more pod", () => held.size > before || !working);
        await bare.kill();
        kills++;
        await bare.start();
      }
    })();
    const work = async (names: readonly string[]): Promise<void> => {
      for (const name of names) {
        const path = await netns(`kill-${name}`);
        const added = await until(`ADD of ${name}`, async () => {
          const answer = await cni("ADD", `kill-${name}`, path, name);
          return answer.exitCode === 0 ? answer : undefined;
        });
        for (const taken of held.values()) expect(taken.some((addr) => addresses(added).includes(addr))).toBe(false);
        held.set(name, addresses(added));
      }
    };
    await Promise.all([work(PODS.slice(10, 20)), work(PODS.slice(20, 30))]);
    for (const name of held.keys())
      await until(
        `DEL of ${name}`,
        async () => (await cni("DEL", `kill-${name}`, `/run/netns/${lab.name}-kill-${name}`, name)).exitCode === 0,
      );
    working = false;
    await killer;
    await until(
      "the daemon to be in sync",
      async () => (await lab.daemon(node).catch(() => undefined))?.inSync === true,
    );
    expect(kills).toBeGreaterThan(2);
    expect((await cni("STATUS", "", "", "")).exitCode).toBe(0);
    await until("every address to be given back", async () => (await recorded()) === before);
    expect(runtime.journal()).toEqual([]);
  }, 240_000);

  test("without a daemon STATUS reports that the network is unavailable, and ADD that it can be retried", async () => {
    const socket = { daemon_socket: `${node.root}/var/run/calico/nobody.sock` };
    expect((await cni("STATUS", "", "", "", { config: socket })).answer.code).toBe(50);
    const added = await cni("ADD", "nobody", "/run/netns/none", "pod-9", { config: socket });
    expect(added.answer).toMatchObject({
      code: 11,
      msg: `cannot reach calico node at ${node.root}/var/run/calico/nobody.sock: is it running on this node?`,
    });
  });
});

/** The last: the node is none afterwards. */
describe("a node from which Calico is removed", () => {
  const remove = (): Promise<Output> => lab.inNode(node, CALICO, "node", "--remove", "--root", node.root);
  const inKernel = async (): Promise<string> => {
    const of = async (...command: readonly string[]): Promise<string> => (await lab.inNode(node, ...command)).stdout;
    return [
      await of("nft", "list", "tables"),
      await of("iptables-nft-save"),
      await of("iptables-legacy-save"),
      await of("ip", "-4", "route", "show", "proto", "80"),
      await of("ip", "-6", "route", "show", "proto", "80"),
      await of("ip", "-br", "link"),
      await of("tc", "filter", "show", "dev", "eth0", "egress"),
    ].join("");
  };

  test("is left as it is while the daemon or a pod is there; then nothing of Calico is", async () => {
    const path = await netns("removed");
    expect((await cni("ADD", "removed", path, "pod-9")).exitCode).toBe(0);
    expect(await remove()).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("calico node runs here") });
    await bare.kill();
    expect(await remove()).toMatchObject({ exitCode: 1, stderr: expect.stringContaining(`${NS}/pod-9`) });
    expect(await inKernel()).toContain("cali");
    await bare.start();
    expect((await cni("DEL", "removed", path, "pod-9")).exitCode).toBe(0);
    await until("its addresses to be given back", async () => runtime.journal().length === 0);
    await bare.kill();
    const { exitCode, stdout } = await remove();
    expect({ exitCode, stdout }).toMatchObject({ exitCode: 0 });
    expect(await inKernel()).not.toMatch(/cali/);
    const directories = ["--bin-dir", bare.cniBinDir, "--conf-dir", `${node.root}/etc/cni/net.d`];
    expect(await execute([CALICO, "cni", "uninstall", "--root", node.root, ...directories])).toMatchObject({
      exitCode: 0,
    });
    expect(existsSync(`${bare.cniBinDir}/calico`) || existsSync(`${node.root}/etc/cni/net.d/10-calico.conflist`)).toBe(
      false,
    );
    // The same node again.
    await bare.start();
    expect(await inKernel()).toMatch(/cali/);
  }, 60_000);
});
