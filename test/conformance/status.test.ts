/** What the status of a policy says, as an operator asks for it: kubectl wait, get and describe, while programs die and come back. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { Lab, LAB_API, list, namespace, serverPod, until } from "./fixture.ts";

const lab = new Lab();
beforeAll(() => lab.up(), 180_000);
afterAll(() => lab.down(), 60_000);

const NS = "status";

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
  readonly observedGeneration: number;
  readonly lastTransitionTime: string;
}

interface Listed {
  readonly items: readonly {
    readonly metadata: { readonly name: string; readonly resourceVersion: string };
  }[];
}

const WEB = "networkpolicies.projectcalico.org/web";
const ALLOW = { selector: "app == 'web'", types: ["Ingress"], ingress: [{ action: "Allow", protocol: "TCP" }] };

function policy(name: string, spec: object, kind = "NetworkPolicy"): object {
  return { apiVersion: "projectcalico.org/v3", kind, metadata: { name, namespace: NS }, spec };
}

beforeAll(async () => {
  const web = (name: string, node: string): object => serverPod(NS, name, { app: "web" }, 80, { nodeName: node });
  await lab.apply(list(namespace(NS), web("web-1", "n1"), web("web-2", "n2")));
  await lab.pods(NS, "web-1", "web-2");
}, 120_000);

async function conditions(what: string): Promise<ReadonlyMap<string, Condition>> {
  const object = JSON.parse(await lab.must("get", "-n", NS, what, "-o", "json")) as {
    status?: { conditions?: readonly Condition[] };
  };
  return new Map((object.status?.conditions ?? []).map((condition) => [condition.type, condition]));
}

/** The condition, once it holds of that generation and says so. */
function becomes(
  what: string,
  type: "Accepted" | "Programmed",
  wanted: Partial<Condition>,
  seconds?: number,
): Promise<Condition> {
  return until(
    `${type} of ${what} to be ${JSON.stringify(wanted)}`,
    async () => {
      const found = (await conditions(what)).get(type);
      const isSo = Object.entries(wanted).every(([field, value]) => Reflect.get(found ?? {}, field) === value);
      return isSo ? found : undefined;
    },
    seconds,
  );
}

const ON_BOTH = { status: "True", reason: "Programmed", message: "programmed on 2 of 2 nodes" };

async function change(order: number): Promise<void> {
  await lab.apply(JSON.stringify(policy("web", { ...ALLOW, order })));
}

describe("a policy that selects pods of two nodes", () => {
  test("kubectl waits for it, and shows it", async () => {
    await lab.apply(JSON.stringify(policy("web", ALLOW)));
    await lab.must("wait", "-n", NS, "--for=condition=Accepted", "--timeout=30s", WEB);
    await lab.must("wait", "-n", NS, "--for=condition=Programmed", "--timeout=30s", WEB);
    const found = await conditions(WEB);
    expect(found.get("Accepted")).toMatchObject({ status: "True", reason: "Valid", observedGeneration: 1 });
    expect(found.get("Programmed")).toMatchObject({ ...ON_BOTH, observedGeneration: 1 });
    expect(await lab.must("get", "-n", NS, WEB)).toMatch(/PROGRAMMED.*\n.*\bTrue\b/);
  }, 60_000);

  test("a change is programmed at its own generation, and since later", async () => {
    const before = (await conditions(WEB)).get("Programmed");
    await change(10);
    await lab.must("wait", "-n", NS, "--for=condition=Programmed", "--timeout=30s", WEB);
    const after = (await conditions(WEB)).get("Programmed");
    expect(after).toMatchObject({ ...ON_BOTH, observedGeneration: 2 });
    expect(Date.parse(after?.lastTransitionTime ?? "")).toBeGreaterThanOrEqual(
      Date.parse(before?.lastTransitionTime ?? ""),
    );
  }, 60_000);

  test("a node that does not answer is named, and counts again when it does", async () => {
    const { pid } = await lab.node("n2");
    process.kill(pid, "SIGSTOP");
    try {
      await change(20);
      await becomes(WEB, "Programmed", {
        status: "False",
        reason: "Pending",
        message: "programmed on 1 of 2 nodes; not known yet of n2",
        observedGeneration: 3,
      });
    } finally {
      process.kill(pid, "SIGCONT");
    }
    await becomes(WEB, "Programmed", { ...ON_BOTH, observedGeneration: 3 });
  }, 120_000);

  test("kill -9 of a daemon: what the next one programs is known", async () => {
    const { pid } = await lab.node("n1");
    process.kill(pid, "SIGKILL");
    await change(30);
    await becomes(WEB, "Programmed", { ...ON_BOTH, observedGeneration: 4 });
  }, 120_000);

  test("kill -9 of the controllers: the next ones go on", async () => {
    const { controllersPid } = await lab.status();
    process.kill(controllersPid, "SIGKILL");
    await change(40);
    await becomes(WEB, "Programmed", { ...ON_BOTH, observedGeneration: 5 }, 90);
    const now = await lab.status();
    expect(now.controllersPid).not.toBe(controllersPid);
  }, 120_000);
});

describe("other policies", () => {
  test("one that selects nothing is programmed; one of the whole cluster, on its nodes", async () => {
    await lab.apply(
      list(
        policy("nobody", { ...ALLOW, selector: "app == 'none'" }),
        {
          apiVersion: "projectcalico.org/v3",
          kind: "GlobalNetworkPolicy",
          metadata: { name: "status-web" },
          spec: ALLOW,
        },
        {
          apiVersion: "policy.networking.k8s.io/v1alpha2",
          kind: "ClusterNetworkPolicy",
          metadata: { name: "status-web" },
          spec: {
            tier: "Admin",
            priority: 10,
            subject: { namespaces: { matchLabels: { "kubernetes.io/metadata.name": NS } } },
            ingress: [{ action: "Pass", from: [{ namespaces: {} }] }],
          },
        },
      ),
    );
    await becomes("networkpolicies.projectcalico.org/nobody", "Programmed", {
      status: "True",
      message: "selects no endpoint on any node",
    });
    for (const kind of ["globalnetworkpolicy", "clusternetworkpolicy"])
      await becomes(`${kind}/status-web`, "Programmed", ON_BOTH);
    await lab.must("delete", "globalnetworkpolicy/status-web", "clusternetworkpolicy/status-web");
  }, 120_000);

  test("http is enforced in part, and the status says so; a staged policy is accepted", async () => {
    await lab.apply(
      list(
        policy("http", { ...ALLOW, ingress: [{ action: "Allow", http: { methods: ["GET"] } }] }),
        policy("staged", { ...ALLOW, stagedAction: "Set" }, "StagedNetworkPolicy"),
      ),
    );
    const { message } = await becomes("networkpolicies.projectcalico.org/http", "Accepted", {
      status: "True",
      reason: "EnforcedInPart",
    });
    expect(message).toStartWith("spec.ingress[0].http is not enforced");
    await becomes("stagednetworkpolicies/staged", "Accepted", { status: "True", reason: "Valid" });
    expect([...(await conditions("stagednetworkpolicies/staged")).keys()]).toEqual(["Accepted"]);
  }, 120_000);

  // It is written into the embedded API's own file.
  test.skipIf(LAB_API !== "embedded")(
    "one that is not valid and got in all the same denies everything, and the status says why",
    async () => {
      await lab.apply(JSON.stringify(policy("got-in", { ...ALLOW, selector: "app == 'web' || app == 'x'" })));
      await becomes("networkpolicies.projectcalico.org/got-in", "Programmed", ON_BOTH);
      const status = await lab.status();
      process.kill(status.supervisor.pid, "SIGSTOP");
      process.kill(status.apiPid, "SIGKILL");
      await until("the API to be gone", async () => (await lab.kubectl("get", "--raw", "/readyz")).exitCode !== 0);
      const directory = status.kubeconfig.replace(/kubeconfig$/, "api");
      const file = readdirSync(directory).find((name) => /\.(db|sqlite)$/.test(name)) ?? "";
      const database = new Database(`${directory}/${file}`);
      database.run(
        `UPDATE objects SET json = replace(replace(json, '|| app ==', '|| app ='), '"generation":1', '"generation":2') WHERE name = 'got-in'`,
      );
      database.close();
      // What had the object before is begun anew, as after a restore.
      for (const pid of [status.controllersPid, ...status.nodes.map((node) => node.pid)]) process.kill(pid, "SIGKILL");
      process.kill(status.supervisor.pid, "SIGCONT");
      await until("the API to be back", async () => (await lab.kubectl("get", "--raw", "/readyz")).exitCode === 0);
      const { message } = await becomes(
        "networkpolicies.projectcalico.org/got-in",
        "Accepted",
        { status: "False", reason: "Invalid", observedGeneration: 2 },
        90,
      );
      expect(message).toStartWith("It denies everything to and from what it selects: spec.selector: Invalid value:");
      await becomes("networkpolicies.projectcalico.org/got-in", "Programmed", {
        status: "False",
        reason: "NotAccepted",
        message: "programmed on 2 of 2 nodes as a policy that denies everything",
      });
      await lab.must("delete", "-n", NS, "networkpolicies.projectcalico.org/got-in");
    },
    180_000,
  );
});

describe("at rest", () => {
  async function revisions(): Promise<string> {
    const kinds = "networkpolicies.projectcalico.org,globalnetworkpolicies,nodepolicystatuses,stagednetworkpolicies";
    const { items } = JSON.parse(await lab.must("get", "-A", kinds, "-o", "json")) as Listed;
    return items.map(({ metadata }) => `${metadata.name} ${metadata.resourceVersion}`).join("\n");
  }

  test("nobody writes any status; only the leader renews its Lease", async () => {
    await becomes(WEB, "Programmed", ON_BOTH);
    let before = "";
    const renewals = new Set<string>();
    // The last changes are told late, as nobody waits for them.
    await until(
      "six renewals of the Lease without another write",
      async () => {
        const now = await revisions();
        if (now !== before) renewals.clear();
        before = now;
        renewals.add(
          await lab.must("get", "-n", "kube-system", "lease", "calico-controllers", "-o", "jsonpath={.spec.renewTime}"),
        );
        return renewals.size > 6;
      },
      90,
    );
  }, 180_000);
});
