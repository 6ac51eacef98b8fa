/** What the product's definitions are to a real API server. */
import { beforeAll, describe, expect, test } from "bun:test";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";

const MANIFESTS = new URL("../../manifests", import.meta.url).pathname;
let cluster: Cluster;

beforeAll(async () => {
  cluster = await attachCluster();
});

describe("CustomResourceDefinitions", () => {
  test("load again without any warning", async () => {
    const { exitCode, stderr } = await cluster.tryKubectl(["apply", "--server-side", "-f", `${MANIFESTS}/crds`]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  });

  test("are accepted whole: names, schema, storage", async () => {
    interface Definition {
      readonly metadata: { readonly name: string };
      readonly status: { readonly conditions: readonly { readonly type: string; readonly status: string; readonly message: string }[] };
    }
    const { items } = await cluster.get<{ items: readonly Definition[] }>(["crds"]);
    expect(items.length).toBeGreaterThanOrEqual(4);
    for (const { metadata, status } of items) {
      const conditions = Object.fromEntries(status.conditions.map((condition) => [condition.type, condition.status]));
      expect({ name: metadata.name, ...conditions }).toMatchObject({ name: metadata.name, Established: "True", NamesAccepted: "True" });
      // Kubernetes says here what its structural schema rules do not allow.
      expect(conditions["NonStructuralSchema"]).toBeUndefined();
    }
  });

  test("print their columns", async () => {
    const text = await cluster.kubectl(["get", "ippools"]);
    expect(text.split("\n")[0]?.split(/\s+/).slice(0, 2)).toEqual(["NAME", "CIDR"]);
    expect(text).toContain("10.65.0.0/16");
  });

  test("are explained", async () => {
    expect(await cluster.kubectl(["explain", "ippool.spec.cidr"])).toContain("FIELD: cidr <string>");
  });

  test("fill in defaults and refuse what is wrong, naming the field", async () => {
    const pool = (name: string, spec: object): string => JSON.stringify({ apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name }, spec });
    const made = await cluster.kubectl(["create", "--dry-run=server", "-o", "json", "-f", "-"], pool("defaults", { cidr: "10.99.0.0/16" }));
    expect(JSON.parse(made)).toMatchObject({ spec: { cidr: "10.99.0.0/16", assignmentMode: "Automatic" } });
    const wrong = await cluster.tryKubectl(["create", "--dry-run=server", "-f", "-"], pool("wrong", { cidr: "10.99.0.0/16", assignmentMode: "Sometimes" }));
    expect(wrong.exitCode).not.toBe(0);
    expect(wrong.stderr).toContain("spec.assignmentMode");
    const missing = await cluster.tryKubectl(["create", "--dry-run=server", "-f", "-"], pool("missing", {}));
    expect(missing.stderr).toContain("spec.cidr: Required value");
  });
});
