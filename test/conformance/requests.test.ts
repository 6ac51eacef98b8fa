/** What a pod's network is asked for, by annotations of the Pod and its Namespace, by the network configuration and by CNI_ARGS: obeyed, or refused by name. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { BareNode } from "./bare-node.ts";
import { Lab, list, until } from "./fixture.ts";
import { addressesIn as addresses, type Answer, type CniOptions, Runtime } from "./runtime.ts";

const lab = new Lab();
const NS = "plain";
const bare = new BareNode(lab);
const runtime = new Runtime(lab, bare, NS);

/** Only who asks for them is served. */
const POOLS = {
  a4: "10.81.0.0/24",
  b4: "10.82.0.0/24",
  c4: "10.83.0.0/24",
  off4: "10.84.0.0/24",
  a6: "fd00:81::/112",
  b6: "fd00:82::/112",
};
const ASKING = { "cni.projectcalico.org/ipv4pools": '["b4"]', "cni.projectcalico.org/ipv6pools": '["fd00:82::/112"]' };

beforeAll(async () => {
  await lab.up("--dual-stack", "--nodes", "1");
  await bare.up();
  const pools = Object.entries(POOLS).map(([name, cidr]) => ({
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name },
    spec: { cidr, blockSize: cidr.includes(":") ? 124 : 28, nodeSelector: "!all()", disabled: name === "off4" },
  }));
  const spaces = [
    { name: NS, annotations: {} },
    { name: "asking", annotations: ASKING },
    { name: "six", annotations: { "cni.projectcalico.org/ipFamilies": '["IPv6"]' } },
    { name: "malformed", annotations: { "cni.projectcalico.org/ipv4pools": "b4" } },
    { name: "more", annotations: { "cni.projectcalico.org/ipAddrs": '["10.81.0.1"]' } },
  ];
  const names = ["p", "q"];
  await lab.apply(
    list(
      ...pools,
      ...spaces.map((metadata) => ({ apiVersion: "v1", kind: "Namespace", metadata })),
      ...spaces.flatMap(({ name }) => names.map((pod) => runtime.pod(pod, {}, name))),
      runtime.pod("own-pool", { "cni.projectcalico.org/ipv4pools": '["c4"]' }, "asking"),
      runtime.pod("both", { "cni.projectcalico.org/ipFamilies": '["IPv4", "IPv6"]' }, "six"),
      runtime.pod("only-four", { "cni.projectcalico.org/ipFamilies": '["IPv4"]' }),
      runtime.pod("fixed", { "cni.projectcalico.org/ipAddrs": '["10.81.0.77"]' }),
      runtime.pod("no-ipam", { "cni.projectcalico.org/ipAddrsNoIpam": '["192.0.2.1"]' }),
      runtime.pod("floating", { "cni.projectcalico.org/floatingIPs": '["192.0.2.1"]' }),
      runtime.pod("limited", {
        "qos.projectcalico.org/ingressBandwidth": "1M",
        "cni.projectcalico.org/allowedSourcePrefixes": '["192.0.2.0/24"]',
        "cni.projectcalico.org/ipv4pool": '["a4"]',
      }),
    ),
  );
  for (const { name } of spaces)
    await until(
      `the daemon to know namespace ${name}`,
      async () => (await lab.kubectl("get", "pod", "-n", name, "p")).exitCode === 0,
    );
}, 180_000);

afterAll(async () => {
  await runtime.down();
  await bare.down();
  await lab.down();
}, 60_000);

let containers = 0;

/** ADD, its answer, and DEL. */
async function once(pod: string, options: CniOptions = {}): Promise<Answer> {
  const container = `c${++containers}`;
  const path = await runtime.netns(container);
  const added = await runtime.cni("ADD", container, path, pod, options);
  await runtime.cni("DEL", container, path, pod, options);
  return added;
}

/** Names of the pools of the addresses, or `default`. */
function poolsOf(answer: Answer): string[] {
  expect(answer.answer.msg).toBeUndefined();
  return addresses(answer).map(
    (address) =>
      Object.entries(POOLS).find(([, cidr]) => address.startsWith(cidr.replace(/(0|:)\/.*/, "")))?.[0] ?? "default",
  );
}

const ipam = (keys: object): CniOptions => ({
  config: { ipam: { type: "calico-ipam", assign_ipv4: "true", assign_ipv6: "true", ...keys } },
});

describe("pools", () => {
  test("without a request: the pools that serve the node", async () => {
    expect(poolsOf(await once("p"))).toEqual(["default", "default"]);
  });

  test("the network configuration asks, by name and by range, for each family by itself", async () => {
    expect(poolsOf(await once("p", ipam({ ipv4_pools: ["a4"], ipv6_pools: ["fd00:81::/112"] })))).toEqual(["a4", "a6"]);
    expect(poolsOf(await once("p", ipam({ ipv4_pools: ["10.81.0.0/24"] })))).toEqual(["a4", "default"]);
    expect(poolsOf(await once("p", ipam({ ipv4_pools: [], ipv6_pools: ["a6"] })))).toEqual(["default", "a6"]);
  });

  test("the Namespace comes before the configuration, the Pod before the Namespace", async () => {
    const configured = ipam({ ipv4_pools: ["a4"], ipv6_pools: ["a6"] });
    expect(poolsOf(await once("p", { ...configured, namespace: "asking" }))).toEqual(["b4", "b6"]);
    expect(poolsOf(await once("own-pool", { ...configured, namespace: "asking" }))).toEqual(["c4", "b6"]);
  });

  test("a Namespace that asks for something else is obeyed at the next ADD", async () => {
    await lab.must("annotate", "namespace", "asking", 'cni.projectcalico.org/ipv4pools=["a4"]', "--overwrite");
    await until("the new pool", async () => poolsOf(await once("p", { namespace: "asking" }))[0] === "a4");
    await lab.must("annotate", "namespace", "asking", 'cni.projectcalico.org/ipv4pools=["b4"]', "--overwrite");
    await until("the old pool", async () => poolsOf(await once("p", { namespace: "asking" }))[0] === "b4");
  });

  test("one that is not there, disabled or of the other family is refused by name, and nothing is kept", async () => {
    const before = await runtime.recorded();
    expect((await once("p", ipam({ ipv4_pools: ["none"] }))).answer).toMatchObject({
      code: 101,
      details: expect.stringContaining('IPPool "none", which was requested, does not exist'),
    });
    expect((await once("p", ipam({ ipv4_pools: ["off4"] }))).answer.details).toContain(
      'IPPool "off4", which was requested, is disabled',
    );
    expect((await once("p", ipam({ ipv4_pools: ["a6"] }))).answer.details).toContain(
      'IPPool "a6", which was requested, is IPv6, must be IPv4',
    );
    expect((await once("p", ipam({ ipv4_pools: ["fd00:81::/112"] }))).answer).toMatchObject({
      code: 7,
      msg: 'network configuration field ipam.ipv4_pools is ["fd00:81::/112"], must be a list of names or ranges of IPv4 pools',
    });
    expect((await once("p", { namespace: "malformed" })).answer).toMatchObject({
      code: 7,
      msg: 'namespace malformed: metadata.annotations[cni.projectcalico.org/ipv4pools]: Invalid value: "b4": must be a JSON list of names or ranges of IPv4 pools such as ["10.0.0.0/16"]',
    });
    expect(await runtime.recorded()).toBe(before);
  });
});

describe("families", () => {
  test("the Pod's, else the Namespace's, else the configuration's", async () => {
    const families = (answer: Answer): number[] => addresses(answer).map((address) => (address.includes(":") ? 6 : 4));
    expect(families(await once("p", { namespace: "six" }))).toEqual([6]);
    expect(families(await once("both", { namespace: "six" }))).toEqual([4, 6]);
    expect(families(await once("only-four"))).toEqual([4]);
    expect(families(await once("p", ipam({ assign_ipv4: "false" })))).toEqual([6]);
  });
});

describe("CNI_ARGS", () => {
  for (const address of ["10.81.0.9", "fd00:81::9"]) {
    test(`IP=${address} is the pod's address`, async () => {
      expect(addresses(await once("p", { args: `IP=${address}` }))).toEqual([
        `${address}/${address.includes(":") ? 128 : 32}`,
      ]);
    });
  }

  test("an address that is in no enabled pool, taken, or none at all is refused, and nothing is kept", async () => {
    const before = await runtime.recorded();
    expect((await once("p", { args: "IP=192.0.2.1" })).answer).toMatchObject({
      code: 101,
      details: "Cannot assign 192.0.2.1: no enabled IPPool contains it",
    });
    expect((await once("p", { args: "IP=10.84.0.1" })).answer.details).toBe(
      "Cannot assign 10.84.0.1: no enabled IPPool contains it",
    );
    expect((await once("p", { args: "IP=10.81.0" })).answer).toMatchObject({
      code: 4,
      msg: expect.stringContaining('CNI_ARGS IP is "10.81.0", must be an IPv4 or IPv6 address'),
    });
    const path = await runtime.netns("holder");
    expect((await runtime.cni("ADD", "holder", path, "q", { args: "IP=10.81.0.10" })).exitCode).toBe(0);
    expect((await once("p", { args: "IP=10.81.0.10" })).answer.details).toBe(
      'Cannot assign 10.81.0.10: handle "k8s-pod-network.holder" holds it',
    );
    await runtime.cni("DEL", "holder", path, "q");
    expect(await runtime.recorded()).toBe(before);
  });

  test("the Pod's own annotation comes first", async () => {
    expect(addresses(await once("fixed", { args: "IP=10.81.0.9" }))).toEqual(["10.81.0.77/32"]);
  });
});

describe("what is not built", () => {
  const log = (): string => readFileSync(`${bare.root}/calico.log`, "utf8");

  test("a Pod that would get other addresses than it asks for is refused, naming annotation and value", async () => {
    expect((await once("no-ipam")).answer).toMatchObject({
      code: 7,
      msg: expect.stringContaining(
        'pod plain/no-ipam: metadata.annotations[cni.projectcalico.org/ipAddrsNoIpam]: Invalid value: "[\\"192.0.2.1\\"]": must be absent: addresses outside every pool are not supported',
      ),
    });
    expect((await once("floating")).answer.msg).toContain("metadata.annotations[cni.projectcalico.org/floatingIPs]");
  });

  test("a Pod whose annotations have no effect starts, and its Events and the log say which, misspelt ones too", async () => {
    expect((await once("limited")).exitCode).toBe(0);
    const message = await until("the Event", async () => {
      const events = JSON.parse(await lab.must("get", "events", "-n", NS, "-o", "json")) as {
        items: { reason: string; type: string; message: string; involvedObject: { kind: string; name: string } }[];
      };
      return events.items.find(
        ({ reason, type, involvedObject }) =>
          reason === "RequestIgnored" &&
          type === "Warning" &&
          involvedObject.kind === "Pod" &&
          involvedObject.name === "limited",
      )?.message;
    });
    for (const part of [
      'annotation qos.projectcalico.org/ingressBandwidth="1M" of pod plain/limited: limits by annotation are not supported',
      'annotation cni.projectcalico.org/ipv4pool="[\\"a4\\"]" of pod plain/limited: it is not known',
    ]) {
      expect(message).toContain(part);
    }
    expect(log()).toContain("ingressBandwidth");
    await until("the Event about its source prefixes", async () =>
      (await lab.must("get", "events", "-n", NS, "-o", "jsonpath={.items[*].message}")).includes(
        "source prefixes 192.0.2.0/24: they have an effect where workloadSourceSpoofing of the FelixConfiguration is Any",
      ),
    );
  });

  test("an annotation that counts on a Pod alone is named when a Namespace has it", async () => {
    expect((await once("p", { namespace: "more" })).exitCode).toBe(0);
    await until("the Event", async () =>
      (await lab.must("get", "events", "-n", "more", "-o", "jsonpath={.items[*].message}")).includes(
        'annotation cni.projectcalico.org/ipAddrs="[\\"10.81.0.1\\"]" of namespace more: it is not known',
      ),
    );
  });

  test("keys of the configuration: what would change the pod is refused, what has no effect is in the log once", async () => {
    expect((await once("p", { config: { container_settings: { allow_ip_forwarding: true } } })).answer).toMatchObject({
      code: 7,
      msg: "network configuration field container_settings.allow_ip_forwarding is true, must be false: forwarding inside a pod is not supported",
    });
    expect((await once("p", { config: { nodename: "elsewhere" } })).answer.msg).toBe(
      'network configuration field nodename is "elsewhere", must be "bare", the name of this node, or absent',
    );
    for (let i = 0; i < 2; i++)
      expect(
        (await once("p", { config: { log_level: "debug", mtuu: 1400, nodename: "bare" }, args: "X=1" })).exitCode,
      ).toBe(0);
    const lines = log()
      .split("\n")
      .filter((line) => line.includes("has no effect"));
    for (const key of ["log_level: ", "mtuu: it is not known", "CNI_ARGS X: it is not known"])
      expect(lines.filter((line) => line.includes(key)).length).toBe(1);
  });
});
