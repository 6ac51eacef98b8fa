/** label: one label change of a pod, from sending the API write to the kernel's commit of the set, as the kernel itself reports it. */
import { readFileSync } from "node:fs";
import { openSys } from "../../src/host/bun/sys.ts";
import { withNamespace } from "../../src/kernel/netns.ts";
import { LabApi } from "../../lab/cluster/api.ts";
import { type Lab, list, namespace, serverPod, until } from "../conformance/fixture.ts";
import { percentile, ratio, row } from "./figures.ts";

const CHANGES = 200;
/** AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER; group NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h. */
const [AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER, NFNLGRP_NFTABLES] = [16, 3, 12, 7];
const [SOL_NETLINK, NETLINK_ADD_MEMBERSHIP] = [270, 1];

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
  await lab.pods("labels", "server", "client");
  const node = await lab.node("n1");
  await until("the daemon to be idle", async () => (await lab.daemon(node)).backlog === 0);
  const sys = openSys();
  const fd = withNamespace(sys, node.netns, () => {
    const socket = sys.socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
    const address = new Uint8Array(12);
    new DataView(address.buffer).setUint16(0, AF_NETLINK, true);
    sys.bind(socket, address);
    sys.setSocketOption(socket, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES);
    return socket;
  });
  const buffer = new Uint8Array(1 << 16);
  const MSG_DONTWAIT = 0x40;
  const drain = (): boolean => {
    let some = false;
    while (sys.receive(fd, buffer, MSG_DONTWAIT) > 0) some = true;
    return some;
  };
  const api = new LabApi(lab.kubeconfig);
  const path = "/api/v1/namespaces/labels/pods/client";
  const whole: number[] = [];
  const write: number[] = [];
  for (let i = 0; i < CHANGES; i++) {
    drain();
    const start = Bun.nanoseconds();
    let answered = 0;
    const answer = api
      .request(
        "PATCH",
        path,
        { metadata: { labels: { allowed: i % 2 === 0 ? "yes" : null } } },
        "application/merge-patch+json",
      )
      .then(() => (answered = Bun.nanoseconds()));
    let committed = 0;
    while (committed === 0) {
      if (drain()) committed = Bun.nanoseconds();
      else if (Bun.nanoseconds() - start > 5e9) throw new Error("no commit within 5 s of the write");
      else await new Promise((resolve) => setImmediate(resolve));
    }
    await answer;
    whole.push((committed - start) / 1e6);
    write.push((answered - start) / 1e6);
  }
  sys.close(fd);
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
    `change p99 ${percentile(whole, 0.99).toFixed(2)} ms   (aim: under 10 ms)   load ${readFileSync("/proc/loadavg", "utf8").split(" ")[0]}`,
  );
}
