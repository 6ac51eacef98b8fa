/** The lab itself: side by side with another, made twice, removed without a trace also after a crash, and refusing nonsense in words. */
import { afterAll, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { CALICO, execute, Lab, list, namespace, serverPod, until } from "./fixture.ts";

const [first, second] = [new Lab(), new Lab()];
afterAll(async () => {
  await first.down();
  await second.down();
}, 60_000);

/** Whatever of the lab is on the machine: processes, namespaces, cgroups, files. */
function traces(name: string): string[] {
  const mount = readFileSync("/proc/mounts", "utf8").split("\n").map((line) => line.split(" ")).find((fields) => fields[2] === "cgroup2")?.[1] ?? "";
  const processes = readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => {
      try {
        // A dead process that init has not collected yet is none.
        if (/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"))) return false;
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(name) || readFileSync(`/proc/${pid}/cgroup`, "utf8").includes(`calico-lab-${name}`);
      } catch {
        return false;
      }
    });
  return [
    ...processes.map((pid) => `process ${pid}`),
    ...readdirSync("/run/netns").filter((entry) => entry.includes(name)).map((entry) => `namespace ${entry}`),
    ...readdirSync(mount).filter((entry) => entry.includes(name)).map((entry) => `cgroup ${entry}`),
    ...(existsSync(`/run/calico-lab/${name}`) ? [`directory ${name}`] : []),
  ];
}

test("two labs live side by side, and one may be made twice", async () => {
  await Promise.all([first.up("--nodes", "2"), second.up("--nodes", "1", "--ipv6")]);
  const before = (await first.status()).nodes.map((node) => node.pid);
  await first.up("--nodes", "2");
  expect((await first.status()).nodes.map((node) => node.pid)).toEqual(before);
  expect((await first.must("get", "nodes", "-o", "name")).trim().split("\n")).toEqual(["node/n1", "node/n2"]);
  expect((await second.must("get", "nodes", "-o", "jsonpath={.items[0].status.addresses[0].address}")).trim()).toBe("fd00:30::11");
}, 120_000);

test("other settings under the same name are refused, naming both", async () => {
  const { exitCode, stderr } = await execute([CALICO, "lab", "up", "--name", first.name, "--nodes", "3"]);
  expect(exitCode).toBe(1);
  expect(stderr).toContain(`lab ${first.name} exists with other settings (2 nodes, IPv4, pools 10.65.0.0/16)`);
});

test.each([
  [["--nodes", "0"], '--nodes is "0", must be 1 to 50'],
  [["--ipv6", "--dual-stack"], "--ipv6 and --dual-stack exclude each other"],
  [["--api", "etcd"], '--api is "etcd", must be embedded or kubernetes'],
  [["--pool", "fd00::/48"], "--pool fd00::/48 is IPv6, but the lab is not"],
  [["--pool", "10.0.0.0/33"], 'Cannot parse prefix "10.0.0.0/33": length is 33, must be 0 to 32'],
] as const)("nonsense is refused in words and makes nothing: %p", async (flags, words) => {
  const { exitCode, stderr } = await execute([CALICO, "lab", "up", "--name", "nonsense", ...flags]);
  expect(exitCode).toBe(1);
  expect(stderr).toContain(words);
  expect(traces("nonsense")).toEqual([]);
});

test("exec gives the command's own exit code and output", async () => {
  await first.apply(list(namespace("lab"), serverPod("lab", "one", { app: "one" })));
  await first.pods("lab", "one");
  const done = await execute([CALICO, "lab", "exec", "--name", first.name, "lab/one", "--", "sh", "-c", "echo out; exit 7"]);
  expect([done.exitCode, done.stdout]).toEqual([7, "out\n"]);
  const missing = await execute([CALICO, "lab", "exec", "--name", first.name, "lab/two", "--", "true"]);
  expect([missing.exitCode, missing.stderr]).toEqual([1, `calico lab: there is no running pod lab/two in lab ${first.name}; see "kubectl get pods -A"\n`]);
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

test("down leaves no trace, also after its supervisor was killed, and touches no other lab", async () => {
  process.kill((await first.status()).supervisor.pid, "SIGKILL");
  expect(traces(first.name).length).toBeGreaterThan(10);
  const { exitCode, stdout } = await execute([CALICO, "lab", "down", "--name", first.name]);
  expect([exitCode, stdout]).toEqual([0, `lab ${first.name} is removed\n`]);
  expect(traces(first.name)).toEqual([]);
  expect((await second.must("get", "nodes", "-o", "name")).trim()).toBe("node/n1");
  expect((await execute([CALICO, "lab", "down", "--name", first.name])).stdout).toBe(`there is no lab ${first.name}\n`);
}, 60_000);
