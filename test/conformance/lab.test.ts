/** The lab itself: side by side with another, made twice, removed without a trace also after a crash, and refusing nonsense in words. */
import { afterAll, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { CALICO, CALICO_LAB, execute, Lab, list, namespace, serverPod, until } from "./fixture.ts";

const [first, second] = [new Lab(), new Lab()];
afterAll(async () => {
  await first.down();
  await second.down();
}, 60_000);

/** Whatever of the lab is on the machine: processes, namespaces, cgroups, files. */
function traces(name: string): string[] {
  const mount =
    readFileSync("/proc/mounts", "utf8")
      .split("\n")
      .map((line) => line.split(" "))
      .find((fields) => fields[2] === "cgroup2")?.[1] ?? "";
  const processes = readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => {
      try {
        // A dead process that init has not collected yet is none.
        if (/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"))) return false;
        return (
          readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(name) ||
          readFileSync(`/proc/${pid}/cgroup`, "utf8").includes(`calico-lab-${name}`)
        );
      } catch {
        return false;
      }
    });
  return [
    ...processes.map((pid) => `process ${pid}`),
    ...readdirSync("/run/netns")
      .filter((entry) => entry.includes(name))
      .map((entry) => `namespace ${entry}`),
    ...readdirSync(mount)
      .filter((entry) => entry.includes(name))
      .map((entry) => `cgroup ${entry}`),
    ...(existsSync(`/run/calico-lab/${name}`) ? [`directory ${name}`] : []),
  ];
}

test("two labs live side by side, and one may be made twice", async () => {
  await Promise.all([first.up("--nodes", "2"), second.up("--nodes", "1", "--ipv6")]);
  const before = (await first.status()).nodes.map((node) => node.pid);
  await first.up("--nodes", "2");
  expect((await first.status()).nodes.map((node) => node.pid)).toEqual(before);
  expect((await first.must("get", "nodes", "-o", "name")).trim().split("\n")).toEqual(["node/n1", "node/n2"]);
  expect((await second.must("get", "nodes", "-o", "jsonpath={.items[0].status.addresses[0].address}")).trim()).toBe(
    "fd00:30::11",
  );
}, 120_000);

test("other settings under the same name are refused, naming both", async () => {
  const { exitCode, stderr } = await execute([CALICO_LAB, "up", "--name", first.name, "--nodes", "3"]);
  expect(exitCode).toBe(1);
  expect(stderr).toContain(`lab ${first.name} exists with other settings (2 nodes, IPv4, pools 10.65.0.0/16)`);
});

test.each([
  [["--nodes", "0"], '--nodes is "0", must be 1 to 50'],
  [["--ipv6", "--dual-stack"], "--ipv6 and --dual-stack exclude each other"],
  [["--api", "etcd"], '--api is "etcd", must be embedded or kubernetes'],
  [["--pool", "fd00::/48"], "--pool fd00::/48 is IPv6, but the lab is not"],
  [["--pool", "10.0.0.0/33"], '--pool: Cannot parse prefix "10.0.0.0/33": length is 33, must be 0 to 32'],
  [["--pool", "172.16.0.0/12"], "--pool 172.16.0.0/12 overlaps 172.30.0.0/24, the lab's fabric"],
  [["--pool", "172.30.0.64/26"], "--pool 172.30.0.64/26 overlaps 172.30.0.0/24, the lab's fabric"],
  [["--pool", "10.0.0.0/8"], "--pool 10.0.0.0/8 overlaps 10.96.0.0/16, the lab's service addresses"],
  [["--dual-stack", "--pool", "fd00::/16"], "--pool fd00::/16 overlaps fd00:30::/64, the lab's fabric"],
  [["--dual-stack", "--pool", "fe80::/64"], "--pool fe80::/64 overlaps fe80::/10, link-local addresses"],
  [["--pool", "10.1.0.0/16", "--pool", "10.1.2.0/24"], "--pool 10.1.2.0/24 overlaps the pool 10.1.0.0/16"],
  [["--pool", "10.1.0.0/27"], "--pool 10.1.0.0/27 is smaller than one block: its length must be at most 26"],
  [["--frob"], "unknown option '--frob'"],
] as const)("nonsense is refused in words and makes nothing: %p", async (flags, words) => {
  const { exitCode, stderr } = await execute([CALICO_LAB, "up", "--name", "nonsense", ...flags]);
  expect(exitCode).toBe(2);
  expect(stderr).toContain(`calico-lab up: ${words}`);
  expect(stderr).toContain("--help");
  expect(traces("nonsense")).toEqual([]);
});

test("exec gives the command's own exit code and output", async () => {
  await first.apply(list(namespace("lab"), serverPod("lab", "one", { app: "one" })));
  await first.pods("lab", "one");
  const done = await execute([
    CALICO_LAB,
    "exec",
    "--name",
    first.name,
    "lab/one",
    "--",
    "sh",
    "-c",
    "echo out; exit 7",
  ]);
  expect([done.exitCode, done.stdout]).toEqual([7, "out\n"]);
  const missing = await execute([CALICO_LAB, "exec", "--name", first.name, "lab/two", "--", "true"]);
  expect([missing.exitCode, missing.stderr]).toEqual([
    1,
    `calico-lab exec: there is no running pod lab/two in lab ${first.name}; see "kubectl get pods -A"\n`,
  ]);
}, 60_000);

test("a daemon that dies is started again, and counted", async () => {
  const before = await first.node("n1");
  process.kill(before.pid, "SIGKILL");
  const after = await until("another daemon", async () => {
    const node = await first.node("n1");
    return node.pid !== undefined && node.pid !== before.pid ? node : undefined;
  });
  expect(after.restarts).toBe(before.restarts + 1);
});

/** What `lab status` prints for people. */
async function shown(lab: Lab): Promise<string> {
  return (await execute([CALICO_LAB, "status", "--name", lab.name])).stdout;
}

test("status reports no errors for a lab that works", async () => {
  await until("a lab without problems", async () => !(await shown(first)).includes("Missing or not ready"));
});

test.each([
  [
    "the interface of a node",
    (lab: Lab) => ["ip", "-n", `calico-lab.${lab.name}.n1`, "link", "del", "eth0"],
    "BIRD of node n1 has not all its BGP sessions established",
  ],
  [
    "the network namespace of a node",
    (lab: Lab) => ["ip", "netns", "del", `calico-lab.${lab.name}.n1`],
    "n1 of node n1 is gone",
  ],
  ["the fabric", (lab: Lab) => ["ip", "netns", "del", `calico-lab.${lab.name}.fabric`], "fabric of the fabric is gone"],
  [
    "a Node",
    (lab: Lab) => ["kubectl", `--kubeconfig=${lab.kubeconfig}`, "delete", "node", "n2"],
    "Node n2 is not in the API",
  ],
  [
    "a pool",
    (lab: Lab) => ["kubectl", `--kubeconfig=${lab.kubeconfig}`, "delete", "ippool", "default-ipv4-ippool"],
    "no IPPool has the range 10.65.0.0/16",
  ],
  ["the kubeconfig", (lab: Lab) => ["rm", lab.kubeconfig], "kubeconfig is gone"],
] as const)(
  "%s that somebody removed is named by status, and back after up, with the pods that were there",
  async (_, removal, problem) => {
    expect((await execute(removal(first))).exitCode).toBe(0);
    await until(`the words ${problem}`, async () => (await shown(first)).includes(problem));
    await first.up("--nodes", "2");
    await until("no problem", async () => !(await shown(first)).includes("Missing or not ready"));
    const [pod] = await first.pods("lab", "one");
    const other = await first.node("n1");
    if (pod === undefined) throw new Error("no pod");
    for (const node of [other, await first.node("n2")]) {
      await until(
        `an answer of the pod to ${node.name}`,
        async () => (await first.inNode(node, "ping", "-c", "1", "-W", "1", pod.addresses[0] ?? "")).exitCode === 0,
      );
    }
  },
  180_000,
);

test("a pod whose network namespace was removed gets another", async () => {
  const [before] = await first.pods("lab", "one");
  if (before === undefined) throw new Error("no pod");
  expect((await execute(["umount", before.netns])).exitCode).toBe(0);
  await execute(["rm", before.netns]);
  const node = await first.node(before.node);
  await until("an answer of the pod", async () => {
    const pod = (await first.status()).pods.find(({ name }) => name === "one");
    return (
      pod?.addresses[0] !== undefined &&
      (await execute(["ls", pod.netns])).exitCode === 0 &&
      (await first.inNode(node, "ping", "-c", "1", "-W", "1", pod.addresses[0])).exitCode === 0
    );
  });
}, 60_000);

test("status bears pods that go while it looks", async () => {
  let going = true;
  const churn = (async () => {
    for (let i = 0; i < 12; i++) {
      await first.apply(list(serverPod("lab", `brief-${i}`, {})));
      await first.must("delete", "pod", "-n", "lab", `brief-${i}`, "--wait=false");
    }
    going = false;
  })();
  const failures: string[] = [];
  while (going) {
    const { exitCode, stderr } = await execute([CALICO_LAB, "status", "--name", first.name]);
    if (exitCode !== 0) failures.push(stderr);
  }
  await churn;
  expect(failures).toEqual([]);
}, 120_000);

test.each(["SIGINT", "SIGTERM"] as const)(
  "%s while `calico lab` makes a lab says once what is left and how to remove it",
  async (signal) => {
    const name = `${second.name}-half`;
    const child = Bun.spawn([CALICO, "lab", "up", "--name", name], { stdout: "pipe", stderr: "pipe" });
    try {
      const decoder = new TextDecoder();
      let said = "";
      for await (const chunk of child.stderr) {
        said += decoder.decode(chunk, { stream: true });
        if (said.includes("starting the API") && !said.includes("interrupted")) child.kill(signal);
      }
      expect(said).toContain(
        `interrupted. What is made of lab ${name} so far stays, and may be running: "calico-lab down --name ${name}" removes it`,
      );
      expect(said.split("interrupted").length).toBe(2);
      expect(await child.exited).toBe(signal === "SIGINT" ? 130 : 143);
    } finally {
      await execute([CALICO_LAB, "down", "--name", name]);
    }
    expect(traces(name)).toEqual([]);
  },
  60_000,
);

test("down leaves no trace, also after its supervisor was killed, and touches no other lab", async () => {
  process.kill((await first.status()).supervisor.pid, "SIGKILL");
  expect(traces(first.name).length).toBeGreaterThan(10);
  const { exitCode, stdout } = await execute([CALICO_LAB, "down", "--name", first.name]);
  expect([exitCode, stdout]).toEqual([0, `lab ${first.name} is removed\n`]);
  expect(traces(first.name)).toEqual([]);
  expect((await second.must("get", "nodes", "-o", "name")).trim()).toBe("node/n1");
  expect((await execute([CALICO_LAB, "down", "--name", first.name])).stdout).toBe(`there is no lab ${first.name}\n`);
}, 60_000);
