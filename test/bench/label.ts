/**
 * label: one label change of a pod, from sending the API write to the kernel's commit of that change: of an element with the pod's own
 * address, as the kernel itself reports it. What else is committed meanwhile does not count.
 */
import { readFileSync } from "node:fs";
import { openSys } from "../../src/host/bun/sys.ts";
import { withNamespace } from "../../src/kernel/netns.ts";
import { LabApi } from "../../lab/cluster/api.ts";
import { type Lab, type LabPod, list, namespace, serverPod, until } from "../conformance/fixture.ts";
import { percentile, ratio, row } from "./figures.ts";
import { CommitReader, openCommits } from "./scale/notifications.ts";

const CHANGES = 200;
const MSG_DONTWAIT = 0x40;

/** The kernel's transactions in the namespace, asked for without waiting. */
function commitsIn(netns: string): {
  readonly commits: () => readonly (readonly string[])[];
  readonly close: () => void;
} {
  const sys = openSys();
  const fd = withNamespace(sys, netns, () => openCommits(sys));
  const reader = new CommitReader();
  const buffer = new Uint8Array(1 << 16);
  const commits = (): readonly (readonly string[])[] => {
    const found: (readonly string[])[] = [];
    for (;;) {
      const length = sys.receive(fd, buffer, MSG_DONTWAIT);
      if (length <= 0) return found;
      for (const { keys } of reader.take(buffer.subarray(0, length), 0)) found.push(keys);
    }
  };
  return { commits, close: () => sys.close(fd) };
}

/** Hexadecimal digits of the pod's IPv4 address, as an element's key begins. */
function keyOf(pod: LabPod): string {
  const address = pod.addresses.find((each) => !each.includes(":")) ?? "";
  return address
    .split(".")
    .map((part) => Number(part).toString(16).padStart(2, "0"))
    .join("");
}

export async function benchLabel(lab: Lab): Promise<void> {
  console.log("\n== one label change, API write to kernel commit");
  const policy = {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: "labels", namespace: "labels" },
    spec: {
      podSelector: { matchLabels: { app: "server" } },
      ingress: [{ from: [{ podSelector: { matchLabels: { allowed: "yes" } } }] }],
    },
  };
  await lab.apply(
    list(
      namespace("labels"),
      policy,
      serverPod("labels", "server", { app: "server" }, 80, { nodeName: "n1" }),
      serverPod("labels", "client", { app: "client" }, 80, { nodeName: "n2" }),
    ),
  );
  const [, client] = (await lab.pods("labels", "server", "client")) as [LabPod, LabPod];
  const node = await lab.node("n1");
  await until("the daemon to be idle", async () => (await lab.daemon(node)).backlog === 0);
  const { whole, write, others } = await changeLabels(new LabApi(lab.kubeconfig), node.netns, keyOf(client));
  const tool: number[] = [];
  for (let i = 0; i < 30; i++) {
    const start = Bun.nanoseconds();
    Bun.spawnSync(["nsenter", `--net=${node.netns}`, "--", "nft", "list", "tables"]);
    tool.push((Bun.nanoseconds() - start) / 1e6);
  }
  await lab.must("delete", "namespace", "labels");
  row("API write to kernel commit", whole, "ms");
  row("of which the API's own answer to the write", write, "ms");
  row("one start of the nft tool", tool, "ms");
  ratio("change p50 : start of nft p50", percentile(whole, 0.5) / percentile(tool, 0.5), "printed for scale");
  console.log(
    `change p99 ${percentile(whole, 0.99).toFixed(2)} ms   (aim: under 10 ms)   commits of something else meanwhile ${others}   load ${readFileSync("/proc/loadavg", "utf8").split(" ")[0]}`,
  );
}

interface Changes {
  readonly whole: readonly number[];
  readonly write: readonly number[];
  /** Commits that were not of the change that was waited for. */
  readonly others: number;
}

async function changeLabels(api: LabApi, netns: string, key: string): Promise<Changes> {
  const kernel = commitsIn(netns);
  const whole: number[] = [];
  const write: number[] = [];
  let others = 0;
  for (let i = 0; i < CHANGES; i++) {
    kernel.commits();
    const start = Bun.nanoseconds();
    let answered = 0;
    const labels = { allowed: i % 2 === 0 ? "yes" : null };
    const answer = api
      .request(
        "PATCH",
        "/api/v1/namespaces/labels/pods/client",
        { metadata: { labels } },
        "application/merge-patch+json",
      )
      .then(() => (answered = Bun.nanoseconds()));
    for (let committed = false; !committed;) {
      for (const keys of kernel.commits()) {
        if (keys.some((each) => each.startsWith(key))) committed = true;
        else others++;
      }
      if (committed) whole.push((Bun.nanoseconds() - start) / 1e6);
      else if (Bun.nanoseconds() - start > 5e9) throw new Error("no commit within 5 s of the write");
      else await new Promise((resolve) => setImmediate(resolve));
    }
    await answer;
    write.push((answered - start) / 1e6);
  }
  kernel.close();
  return { whole, write, others };
}
