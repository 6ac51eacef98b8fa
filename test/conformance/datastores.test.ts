/**
 * A node of a Kubernetes cluster whose Calico objects are elsewhere: in etcd, or in the API as `crd.projectcalico.org/v1`. Pods get addresses from the
 * pools there, and what calicoctl writes there decides their packets.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { classicCrds } from "../datastore/servers.ts";
import { BareNode } from "./bare-node.ts";
import { type EtcdHost, openEtcdHost } from "./etcd-host.ts";
import { CALICOCTL, execute, Lab, list, namespace, type Output, until } from "./fixture.ts";
import { addressesIn, Runtime } from "./runtime.ts";

const NS = "elsewhere";
const API = "projectcalico.org/v3";
const POOLS = { 4: "10.66.0.0/16", 6: "fd00:66::/48" } as const;

const lab = new Lab();
const bare = new BareNode(lab);
const runtime = new Runtime(lab, bare, NS);
let host: EtcdHost;

beforeAll(async () => {
  await lab.up("--dual-stack", "--nodes", "1");
  await bare.make();
  host = await openEtcdHost(lab.name, bare.path.slice("/run/netns/".length), "eth1");
  await lab.apply(list(namespace(NS)));
}, 180_000);

afterAll(async () => {
  await runtime.down();
  await bare.down();
  await host.close();
  await lab.down();
}, 60_000);

interface Datastore {
  /** Of the daemon and of calicoctl; called once, before either is started. */
  readonly prepare: () => Promise<Readonly<Record<string, string>>>;
  /** The handles of all addresses that its blocks record. */
  readonly handles: () => Promise<readonly string[]>;
}

interface Block {
  readonly spec: {
    readonly allocations: readonly (number | null)[];
    readonly attributes: readonly { readonly handle_id?: string }[];
  };
}

function handlesOf(blocks: readonly Block[]): readonly string[] {
  return blocks.flatMap(({ spec }) =>
    spec.allocations.flatMap((index) => (index === null ? [] : (spec.attributes[index]?.handle_id ?? []))),
  );
}

const DATASTORES: Readonly<Record<string, Datastore>> = {
  etcd: {
    prepare: async () => host.environment,
    handles: async () => handlesOf((await host.store.list("IPAMBlock")).items as unknown as Block[]),
  },
  "crd.projectcalico.org/v1": {
    prepare: async () => {
      await lab.apply(list(...classicCrds()));
      await lab.must(
        "wait",
        "--for=condition=Established",
        "--timeout=30s",
        "crd",
        "ipamconfigs.crd.projectcalico.org",
      );
      return { KUBECONFIG: lab.kubeconfig, CALICO_API_GROUP: "" };
    },
    handles: async () => {
      const { items } = JSON.parse(await lab.must("get", "ipamblocks.crd.projectcalico.org", "-o", "json")) as {
        items: Block[];
      };
      return handlesOf(items);
    },
  },
};

describe.each(Object.entries(DATASTORES))("%s", (name, datastore) => {
  const id = name.replace(/[^a-z]/g, "");
  const [client, server] = [`client-${id}`, `server-${id}`];
  let environment: Readonly<Record<string, string>>;
  const ctl = (args: string, input: object = {}): Promise<Output> =>
    execute([CALICOCTL, ...args.split(" ")], { input: JSON.stringify(input), env: environment });
  const apply = async (kind: string, metadata: object, spec: object): Promise<void> => {
    const { exitCode, stderr } = await ctl("apply -f -", { apiVersion: API, kind, metadata, spec });
    expect([exitCode, stderr]).toEqual([0, ""]);
  };
  const served: string[] = [];
  let listener: ReturnType<typeof Bun.spawn> | undefined;
  const connects = async (address: string): Promise<boolean> => {
    const url = `http://${address.includes(":") ? `[${address}]` : address}:80/Apache-2.0`;
    const get = ["wget", "-q", "-T", "1", "-t", "1", "-O", "/dev/null", url];
    return (await execute(["ip", "netns", "exec", `${lab.name}-${client}`, ...get])).exitCode === 0;
  };
  const becomes = async (wanted: boolean): Promise<void> => {
    for (const address of served)
      await until(
        `${address} to be ${wanted ? "allowed" : "denied"}`,
        async () => (await connects(address)) === wanted,
      );
  };

  beforeAll(async () => {
    environment = await datastore.prepare();
    for (const family of [4, 6] as const) await apply("IPPool", { name: `pool${family}` }, { cidr: POOLS[family] });
    bare.environment = environment;
    await bare.start();
    await lab.apply(list(runtime.pod(client), runtime.pod(server)));
  }, 120_000);

  afterAll(async () => {
    listener?.kill("SIGKILL");
    await bare.kill();
  });

  test("pods get addresses of both families from the pools there, which their blocks record", async () => {
    for (const pod of [client, server]) {
      const added = await runtime.cni("ADD", pod, await runtime.netns(pod), pod);
      expect(added.exitCode).toBe(0);
      const addresses = addressesIn(added).map((text) => text.split("/")[0] ?? "");
      expect(addresses.map((text) => text.startsWith(text.includes(":") ? "fd00:66:" : "10.66."))).toEqual([
        true,
        true,
      ]);
      if (pod === server) served.push(...addresses);
      await until(
        "the owner to be recorded",
        async () => (await datastore.handles()).filter((handle) => handle.includes(pod)).length === 2,
      );
    }
    const serve = ["busybox", "httpd", "-f", "-p", "[::]:80", "-h", "/usr/share/common-licenses"];
    listener = Bun.spawn(["ip", "netns", "exec", `${lab.name}-${server}`, ...serve], {
      stdout: "ignore",
      stderr: "ignore",
    });
    await becomes(true);
  }, 90_000);

  test("a policy and a set that calicoctl writes there decide", async () => {
    await apply("NetworkPolicy", { name: "closed", namespace: NS }, { selector: `app == '${server}'`, ingress: [] });
    await becomes(false);
    await apply(
      "NetworkSet",
      { name: "pods", namespace: NS, labels: { role: "pods" } },
      { nets: Object.values(POOLS) },
    );
    await apply(
      "GlobalNetworkPolicy",
      { name: "open" },
      {
        order: -1,
        selector: `app == '${server}'`,
        ingress: [{ action: "Allow", source: { selector: "role == 'pods'", namespaceSelector: "all()" } }],
      },
    );
    await becomes(true);
    expect((await ctl("delete gnp open")).exitCode).toBe(0);
    await becomes(false);
    expect((await ctl(`delete np closed -n ${NS}`)).exitCode).toBe(0);
    await becomes(true);
  }, 120_000);

  test("the daemon starts again with what is there, and a pod that goes gives its addresses back", async () => {
    await bare.kill();
    await bare.start();
    await becomes(true);
    for (const pod of [client, server]) {
      expect(await runtime.cni("DEL", pod, `/run/netns/${lab.name}-${pod}`, pod)).toEqual({ exitCode: 0, answer: {} });
      await until("the addresses to be free", async () =>
        (await datastore.handles()).every((handle) => !handle.includes(pod)),
      );
    }
  }, 90_000);
});
