/**
 * Upstream's calicoctl and ours on one etcd: what either writes the other reads as its own, objects and addresses.
 *
 * CALICO_UPSTREAM_CALICOCTL names the executable, built from upstream's `calicoctl/calicoctl`. Without it these tests are skipped.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { resolve } from "node:path";
import type { EtcdStore } from "../../src/datastore/etcd/store.ts";
import { Ipam } from "../../src/ipam/ipam.ts";
import { dependencies, type Etcd, serveEtcd } from "../datastore/servers.ts";
import { API, SAMPLES } from "../scripts/calicoctl-samples.ts";

const THEIRS = process.env["CALICO_UPSTREAM_CALICOCTL"] ?? "";
const OURS = `${resolve(import.meta.dir, "../..")}/bin/calicoctl`;

interface Listed {
  readonly items: readonly Record<string, unknown>[];
}

describe.skipIf(THEIRS === "")("on one etcd", () => {
  let etcd: Etcd;
  let store: EtcdStore;

  beforeAll(async () => {
    ({ etcd, store } = await serveEtcd());
  }, 60_000);
  afterAll(() => store.close());

  async function run(program: string, args: string, input: object = {}): Promise<string> {
    const child = Bun.spawn([program, ...args.split(" "), "--allow-version-mismatch"], {
      stdin: new TextEncoder().encode(JSON.stringify(input)),
      stdout: "pipe",
      stderr: "pipe",
      env: { ...process.env, DATASTORE_TYPE: "etcdv3", ETCD_ENDPOINTS: etcd.endpoint },
    });
    const [out, error] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    expect([args, await child.exited, error]).toEqual([args, 0, expect.any(String)]);
    return out;
  }

  /** An object as both print it: without what is empty or a server's count. */
  async function read(program: string, kind: string, name: string, scope: string): Promise<unknown> {
    const found = JSON.parse(await run(program, `get ${kind} ${name} -o json${scope}`)) as Record<string, unknown>;
    const { status: _, ...object } = Array.isArray(found) ? ((found as Listed["items"])[0] ?? {}) : found;
    return meaningful(object);
  }

  // Not those of which there is one: upstream's IPAM has its settings elsewhere, and the other is made by whoever comes first.
  const KINDS = [
    ...SAMPLES.filter(({ apiVersion = API, name }) => apiVersion === API && name !== "default"),
    {
      kind: "Profile",
      namespace: undefined,
      name: "sample",
      spec: { ingress: [{ action: "Allow" }], labelsToApply: { z: "1" } },
      change: {},
    },
    {
      kind: "Node",
      namespace: undefined,
      name: "sample",
      spec: { bgp: { ipv4Address: "10.0.0.1/24", asNumber: 64513 } },
      change: {},
    },
  ];

  for (const [writer, reader] of [
    [THEIRS, OURS],
    [OURS, THEIRS],
  ] as const)
    for (const { kind, namespace, name = "sample", spec } of KINDS)
      test(`${kind}, written by ${writer === OURS ? "ours" : "upstream's"}`, async () => {
        const scope = namespace === undefined ? "" : ` -n ${namespace}`;
        const metadata = {
          name,
          labels: { a: "b" },
          annotations: { note: "x<y" },
          ...(namespace === undefined ? {} : { namespace }),
        };
        await run(writer, "create -f -", { apiVersion: API, kind, metadata, spec });
        const written = await read(writer, kind, name, scope);
        expect(written).toMatchObject({ kind, metadata: { name, labels: { a: "b" } } });
        const [ours, theirs] = [await read(OURS, kind, name, scope), await read(THEIRS, kind, name, scope)];
        expect(theirs).toMatchObject(ours as object);
        // What upstream's client adds when it reads, it also writes.
        if (writer === THEIRS) expect(ours).toEqual(theirs);
        await run(reader, `label ${kind} ${name} x=y${scope}`);
        expect(await read(writer, kind, name, scope)).toMatchObject({ metadata: { labels: { a: "b", x: "y" } } });
        await run(reader, `delete ${kind} ${name}${scope}`);
        expect(await run(writer, `get ${kind}${scope}`)).not.toContain(name);
      }, 60_000);

  test("addresses that ours assigned are upstream's to show and release, in the same blocks and handles", async () => {
    for (const [name, cidr, blockSize] of [
      ["v4", "10.0.0.0/24", 29],
      ["v6", "fd00::/112", 125],
    ] as const)
      await store.create("IPPool", { apiVersion: API, kind: "IPPool", metadata: { name }, spec: { cidr, blockSize } });
    const { clock, random } = dependencies;
    const ipam = new Ipam({ store, node: "n1", clock, random, report: () => {} });
    const attributes = { node: "n1", pod: "p", namespace: "d" };
    const { ipv4, ipv6 } = await ipam.assign({ ipv4: 3, ipv6: 2, handle: "k8s-pod-network.abc", attributes });
    const [first = "", second = ""] = [...ipv4.slice(0, 1), ...ipv6.slice(0, 1)];
    for (const address of [first, second]) {
      expect(await run(THEIRS, `ipam show --ip=${address}`)).toContain("Handle ID: k8s-pod-network.abc");
      await run(THEIRS, `ipam release --ip=${address}`);
      expect(await run(THEIRS, `ipam show --ip=${address}`)).toContain("is not assigned");
    }
    const [handle] = (await store.list("IPAMHandle")).items;
    expect(Object.values(handle?.spec.block ?? {}).sort()).toEqual([1, 2]);
    await ipam.releaseByHandle("k8s-pod-network.abc");
    expect((await store.list("IPAMHandle")).items).toEqual([]);
    expect(await run(THEIRS, "ipam show")).toMatch(/10\.0\.0\.0\/24 +\| +256 +\| +0 /);
  }, 60_000);
});

const EMPTY: ReadonlySet<string | undefined> = new Set(["{}", "[]", '""']);

function meaningful(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(meaningful);
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value)
    .map(([name, field]) => [name, meaningful(field)] as const)
    .filter(([name, field]) => field !== null && name !== "generation" && !EMPTY.has(JSON.stringify(field)));
  return Object.fromEntries(fields);
}
