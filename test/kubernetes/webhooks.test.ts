/** `calico webhooks` beside a real API server: what CEL cannot say of Calico's kinds is refused, in the embedded API's words. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import { issued } from "./cluster/certificates.ts";
import { API_ADDRESS, inNetns } from "./cluster/layout.ts";
import { CALICO } from "./cluster/node.ts";
import { run, waitFor } from "./cluster/run.ts";

const NAME = "calico-webhooks";
const PORT = 9443;
let cluster: Cluster;

beforeAll(async () => {
  cluster = await attachCluster();
  const { certificate, key } = issued(cluster.layout, "apiserver");
  const files = ["--kubeconfig", cluster.layout.adminKubeconfig, "--cert-file", certificate, "--key-file", key];
  cluster.daemons.start({
    name: NAME,
    command: inNetns(cluster.layout.fabric, [CALICO, "webhooks", "--host", API_ADDRESS, "--port", `${PORT}`, ...files]),
  });
  const ca = issued(cluster.layout, "ca").certificate;
  const url = `https://${API_ADDRESS}:${PORT}`;
  const printed = await run([CALICO, "webhooks", "--print-configuration", "--url", url, "--ca-file", ca]);
  await cluster.kubectl(["apply", "-f", "-"], printed);
});

afterAll(async () => {
  await cluster.kubectl(["delete", "validatingwebhookconfiguration", "calico"]);
  await cluster.daemons.stop(NAME, "SIGTERM");
});

function policy(spec: object): string {
  return JSON.stringify({
    apiVersion: "projectcalico.org/v3",
    kind: "GlobalNetworkPolicy",
    metadata: { name: "by-webhook" },
    spec,
  });
}

test("a selector that cannot be read is refused with its position", async () => {
  await waitFor(
    "the API server to ask",
    60,
    async () => {
      const { exitCode, stderr } = await cluster.tryKubectl(
        ["create", "--dry-run=server", "-f", "-"],
        policy({ selector: "app = 'x'" }),
      );
      if (exitCode === 0) return false;
      expect(stderr).toContain(
        'The GlobalNetworkPolicy "by-webhook" is invalid: spec.selector: Invalid value: "app = \'x\'": at character 5',
      );
      return true;
    },
    async () => cluster.daemons.tail(NAME),
  );
});

test("nets of both families in one rule, and a net with host bits", async () => {
  for (const nets of [["10.0.0.0/8", "fd00::/8"], ["10.0.0.1/8"]]) {
    const { exitCode, stderr } = await cluster.tryKubectl(
      ["create", "--dry-run=server", "-f", "-"],
      policy({ ingress: [{ action: "Deny", source: { nets } }] }),
    );
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain("spec.ingress[0].source.nets");
  }
});

test("a policy that does not do what it seems to is taken with a warning", async () => {
  const ports = ["80-90"];
  const warned = await cluster.tryKubectl(
    ["create", "--dry-run=server", "-f", "-"],
    policy({ tier: "absent", ingress: [{ action: "Allow", protocol: "TCP", destination: { ports } }] }),
  );
  expect(warned.exitCode).toBe(0);
  expect(warned.stderr).toContain('spec.tier: "absent" does not exist');
  expect(warned.stderr).toContain('"80-90" is the name of a port; a range is 80:90');
});

test("a tier with policies is not deleted, and neither is a built-in one", async () => {
  const objects = JSON.stringify({
    apiVersion: "v1",
    kind: "List",
    items: [
      { apiVersion: "projectcalico.org/v3", kind: "Tier", metadata: { name: "by-webhook" }, spec: { order: 7 } },
      { ...JSON.parse(policy({ tier: "by-webhook" })), metadata: { name: "by-webhook.policy" } },
    ],
  });
  await cluster.kubectl(["create", "-f", "-"], objects);
  const refused = async (tier: string): Promise<string> =>
    (await cluster.tryKubectl(["delete", "tier", tier, "--wait=false"])).stderr;
  expect(await refused("by-webhook")).toContain(
    "this tier has policies, among them GlobalNetworkPolicy by-webhook.policy",
  );
  expect(await refused("default")).toContain("this tier is built in");
  await cluster.kubectl(["delete", "globalnetworkpolicy.projectcalico.org", "by-webhook.policy"]);
  await cluster.kubectl(["delete", "tier", "by-webhook"]);
});

test("what is right is taken, and so is everything while the server is away", async () => {
  await cluster.kubectl(["create", "--dry-run=server", "-f", "-"], policy({ selector: "app == 'x'" }));
  await cluster.daemons.stop(NAME, "SIGTERM");
  await cluster.kubectl(["create", "--dry-run=server", "-f", "-"], policy({ selector: "app = 'x'" }));
});
