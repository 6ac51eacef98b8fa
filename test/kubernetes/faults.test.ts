/**
 * A faulty API server, as seen by one node: pods keep their network and policy, changes are enforced as soon as they can be known, CNI
 * answers, and the daemon neither spins nor dies. The other node and the kubelets use the real server.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import { callPlugin } from "./cluster/plugin.ts";
import { waitFor } from "./cluster/run.ts";
import { type Account, type Refusal, FaultyApi, type Fault } from "./cluster/fault.ts";
import {
  addressesOf,
  answers,
  awaitReady,
  isReady,
  namespace,
  pod,
  type Pod,
  removeNamespace,
  urlOf,
} from "./objects.ts";

const NS = "faults";
const PAGES = "faults-pages";
/** Objects that the daemon asks for at a time. */
const PAGE = 50;
/** More than one page of the daemon's lists, together with what else there is. */
const MANY = 520;
/** Longest that ADD may take: an error or success. */
const ADD_BOUND_S = 45;
/** After the end of a fault: the longest wait between two attempts, and a busy machine. */
const RECOVERY_S = 30;
/** How long a fault is watched at least. */
const OBSERVED_MS = 8_000;

let cluster: Cluster;
let api: FaultyApi;
let pods: Readonly<Record<"toggled" | "open" | "closed", Pod>>;
let toggledIsOpen = true;
let serial = 0;

const closed = (name: string, inNamespace = NS): object => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { namespace: inNamespace, name },
  spec: { podSelector: { matchLabels: { app: name } }, policyTypes: ["Ingress"] },
});

beforeAll(async () => {
  cluster = await attachCluster();
  api = new FaultyApi(cluster, "n1");
  await cluster.apply(namespace(NS));
  await cluster.apply(
    ...["toggled", "open", "closed"].map((name) => pod({ namespace: NS, name, labels: { app: name }, node: "n1" })),
    pod({ namespace: NS, name: "client", node: "n2" }),
    closed("closed"),
  );
  const [toggled, open, guarded] = await awaitReady(cluster, NS, ["toggled", "open", "closed", "client"]);
  if (toggled === undefined || open === undefined || guarded === undefined) throw new Error("a pod is not there");
  pods = { toggled, open, closed: guarded };
  await api.start();
});

afterAll(async () => {
  await api.stop();
  await removeNamespace(cluster, NS);
  await removeNamespace(cluster, PAGES);
});

/** Whether the client reaches the pod; throws when the two families differ. */
async function reaches(target: Pod): Promise<boolean> {
  const [ipv4, ipv6] = await Promise.all(
    addressesOf(target).map((address) => answers(cluster, NS, "client", urlOf(address))),
  );
  if (ipv4 !== ipv6) throw new Error(`${target.metadata.name}: IPv4 ${ipv4}, IPv6 ${ipv6}`);
  return ipv4 === true;
}

async function awaitReach(target: Pod, expected: boolean, seconds: number): Promise<void> {
  const state = (): Promise<boolean> => reaches(target).catch(() => !expected);
  await waitFor(
    `${target.metadata.name} to be ${expected ? "open" : "closed"} in both families`,
    seconds,
    async () => (await state()) === expected,
    async () => cluster.daemons.tail("n1-calico"),
  );
}

/** What was there before the fault is as it was. */
async function pastHolds(): Promise<void> {
  expect({ open: await reaches(pods.open), closed: await reaches(pods.closed) }).toEqual({ open: true, closed: false });
}

/** What the daemon says of itself, JSON. */
async function readiness(): Promise<string> {
  return (
    await cluster.nodeExec("n1", [
      "wget",
      "-q",
      "-T",
      "2",
      "-t",
      "1",
      "--content-on-error",
      "-O",
      "-",
      `http://127.0.0.1:${cluster.node("n1").healthPort}/readiness`,
    ])
  ).stdout;
}

/** The policy of the pod `toggled` changes on the real server. */
async function toggle(): Promise<void> {
  if (toggledIsOpen) await cluster.apply(closed("toggled"));
  else await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "toggled"]);
  toggledIsOpen = !toggledIsOpen;
}

interface Added {
  readonly name: string;
  /** What the kubelet was told, or undefined when the pod runs. */
  readonly error: string | undefined;
  readonly seconds: number;
}

/** A new Pod on the node: it runs, or the kubelet has been told why not. */
async function add(): Promise<Added> {
  const name = `added-${++serial}`;
  const begun = performance.now();
  await cluster.apply(pod({ namespace: NS, name, labels: { app: name }, node: "n1" }));
  let error: string | undefined;
  await waitFor(
    `an answer of CNI for ${name}`,
    ADD_BOUND_S,
    async () => {
      const events = await cluster.kubectl([
        "get",
        "events",
        "-n",
        NS,
        `--field-selector=involvedObject.name=${name},reason=FailedCreatePodSandBox`,
        "-o",
        "jsonpath={.items[*].message}",
      ]);
      error = events === "" ? undefined : events;
      return error !== undefined || isReady(await cluster.get<Pod>(["pod", "-n", NS, name]));
    },
    async () => cluster.daemons.tail("n1-calico"),
  );
  return { name, error, seconds: (performance.now() - begun) / 1000 };
}

/** Attempts at one thing in the time of a fault: with a wait that doubles from 0.1 s to 10 s there are fewer. */
const PATIENT = 16;

/** Nothing is asked again and again without a pause, and nothing before a Retry-After is over; in words. */
function expectPatience({ nowMs, asked }: Account, sinceMs: number): string {
  const times = new Map<string, number>();
  for (const { method, url } of asked) {
    const what = `${method} ${url.replace(/[?&](resourceVersion|timeoutSeconds|continue)=[^&]*/g, "")}`;
    times.set(what, (times.get(what) ?? 0) + 1);
  }
  expect([...times].filter(([, count]) => count > PATIENT)).toEqual([]);
  expect(asked.filter(({ disobeys }) => disobeys)).toEqual([]);
  const seconds = (nowMs - sinceMs) / 1000;
  return `${asked.length} requests in ${seconds.toFixed(1)} s, of one kind ${Math.max(0, ...times.values())} at most`;
}

interface Case {
  readonly fault: Fault;
  /** Changes reach the node also while the fault lasts, within so many seconds. */
  readonly during?: number;
  /** What an ADD that fails says. */
  readonly says?: RegExp;
}

const UNAVAILABLE: Refusal = { code: 503, reason: "ServiceUnavailable", message: "apiserver is shutting down" };
const BROKEN: Refusal = { code: 500, reason: "InternalError", message: "etcdserver: request timed out" };
const BEHIND: Refusal = {
  code: 504,
  reason: "Timeout",
  message: "Too large resource version: 9, current: 8",
  retryAfterSeconds: 1,
  causes: [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }],
};

const CASES: readonly (readonly [string, Case])[] = [
  ["answers that are 3 s late", { fault: { kind: "slow", seconds: 3 }, during: 40, says: /no answer within 2000 ms/ }],
  [
    "429 with Retry-After",
    {
      fault: {
        kind: "refuse",
        with: [
          {
            code: 429,
            reason: "TooManyRequests",
            message: "too many requests, please try again later",
            retryAfterSeconds: 3,
          },
        ],
      },
      says: /429/,
    },
  ],
  [
    "503, 500 and 504",
    {
      fault: { kind: "refuse", with: [UNAVAILABLE, BROKEN, BEHIND] },
      says: /503: apiserver is shutting down|500: etcdserver: request timed out|504: Too large resource version/,
    },
  ],
  ["watches cut again and again", { fault: { kind: "cut" }, during: 40 }],
  ["watches held silent", { fault: { kind: "silent" } }],
  ["no bookmarks", { fault: { kind: "no-bookmarks" }, during: 20 }],
  ["watches that end with 410", { fault: { kind: "expired-watch" }, during: 40 }],
  ["connections closed after the headers", { fault: { kind: "headers-only" }, says: /cannot be read|cannot reach/ }],
  ["a web page with 200", { fault: { kind: "html" }, says: /cannot be read/ }],
  ["answers that end in the middle of a line", { fault: { kind: "half-line" }, says: /cannot be read/ }],
];

describe("a faulty API server", () => {
  test.each(CASES)("%s", async (_, { fault, during, says }) => {
    await awaitReach(pods.toggled, toggledIsOpen, RECOVERY_S);
    const pid = cluster.daemons.pid("n1-calico");
    await api.make(fault);
    const { nowMs: since } = await api.account();
    await toggle();
    if (during !== undefined) await awaitReach(pods.toggled, toggledIsOpen, during);
    const added = await add();
    await pastHolds();
    await waitFor("the fault to be long enough", 60, async () => (await api.account()).nowMs - since > OBSERVED_MS);
    if (during === undefined) expect(await reaches(pods.toggled)).toBe(!toggledIsOpen);
    const account = await api.account();
    console.log(
      `  ${expectPatience(account, since)}; ADD ${added.error === undefined ? "succeeded" : `failed: ${added.error.slice(-160)}`} after ${added.seconds.toFixed(1)} s`,
    );
    if (added.error !== undefined) expect(added.error).toMatch(says ?? /never fails/);
    await api.make({ kind: "none" });
    await awaitReach(pods.toggled, toggledIsOpen, RECOVERY_S);
    await pastHolds();
    const [made] = await awaitReady(cluster, NS, [added.name]);
    if (made !== undefined) await awaitReach(made, true, RECOVERY_S);
    expect(cluster.daemons.pid("n1-calico")).toBe(pid);
    await cluster.kubectl(["delete", "pod", "-n", NS, added.name, "--wait=false"]);
  });

  test("answers that are too late for an address that is not in reserve: ADD ends with an error, and takes nothing", async () => {
    const pools = [
      ["faults4", "10.92.0.0/24"],
      ["faults6", "fd00:92::/112"],
    ] as const;
    const annotations = {
      "cni.projectcalico.org/ipv4pools": '["faults4"]',
      "cni.projectcalico.org/ipv6pools": '["faults6"]',
    };
    const asks = pod({ namespace: NS, name: "asks", spec: { schedulerName: "nobody" } }) as { metadata: object };
    // Each kind waits by itself after what came before; the Pod must come by its watch, for there is no asking for it in time.
    const follows = async (): Promise<boolean> =>
      /"datastore":"in-sync".*"datastoreErrors":\[\]/.test(await readiness());
    await waitFor("the daemon to follow every kind again", RECOVERY_S, follows, readiness);
    await cluster.apply(
      ...pools.map(([name, cidr]) => ({
        apiVersion: "projectcalico.org/v3",
        kind: "IPPool",
        metadata: { name },
        spec: { cidr, nodeSelector: "!all()" },
      })),
      { ...asks, metadata: { ...asks.metadata, annotations } },
    );
    const call = { namespace: NS, pod: "asks", containerId: "faults-asks" };
    const at = cluster.node("n1");
    // So that the daemon knows the Pod.
    await waitFor(
      "an ADD that succeeds",
      RECOVERY_S,
      async () => (await callPlugin(at, { ...call, command: "ADD" })).exitCode === 0,
    );
    const held = async (): Promise<boolean> =>
      (await cluster.kubectl(["get", "ipamhandles"])).includes(call.containerId);
    expect((await callPlugin(at, { ...call, command: "DEL" })).exitCode).toBe(0);
    await waitFor("the addresses to be free", RECOVERY_S, async () => !(await held()));
    await api.make({ kind: "slow", seconds: 8 });
    const begun = performance.now();
    const { exitCode, stdout } = await callPlugin(at, { ...call, command: "ADD" });
    const seconds = (performance.now() - begun) / 1000;
    console.log(`  ${stdout} after ${seconds.toFixed(1)} s`);
    expect([exitCode, seconds < ADD_BOUND_S]).toEqual([1, true]);
    expect(stdout).toContain("the datastore did not finish within 30000 ms");
    await api.make({ kind: "none" });
    await waitFor("the search to end", 60, async () => (await readiness()).includes('"backlog":0'), readiness);
    expect(await held()).toBe(false);
    // Its end does not wait for answers either.
    await api.make({ kind: "slow", seconds: 25 });
    const asked = callPlugin(at, { ...call, command: "ADD" });
    await waitFor("the search to be on its way", 30, async () =>
      (await api.account()).asked.some(({ url }) => url.includes("/ippools?limit")),
    );
    const ending = performance.now();
    await cluster.stopDaemon("n1", "calico");
    console.log(`  ended in ${((performance.now() - ending) / 1000).toFixed(1)} s`);
    expect(performance.now() - ending).toBeLessThan(15_000);
    expect((await asked).exitCode).toBe(1);
    await api.make({ kind: "none" });
    await api.restartNode();
    await waitFor(
      "DEL to succeed",
      RECOVERY_S,
      async () => (await callPlugin(at, { ...call, command: "DEL" })).exitCode === 0,
    );
    await waitFor("what was taken to be given back", RECOVERY_S, async () => !(await held()));
    await cluster.kubectl(["delete", "ippools", ...pools.map(([name]) => name)]);
  });

  test("watches that stay silent forever are replaced", async () => {
    await awaitReach(pods.toggled, toggledIsOpen, RECOVERY_S);
    await api.make({ kind: "stalled" });
    await toggle();
    await awaitReach(pods.toggled, toggledIsOpen, 120);
    await pastHolds();
    const { asked } = await api.account();
    console.log(`  ${asked.length} requests: ${asked.map(({ url }) => url.replace(/\?.*/, "")).join(" ")}`);
    await api.make({ kind: "none" });
  });
});

describe("a daemon that starts while the API server is faulty", () => {
  test("keeps what the kernel enforces, reports the error, and starts when it can", async () => {
    await api.make({ kind: "refuse", with: [{ ...UNAVAILABLE, message: "not today" }] });
    await api.restartNode();
    await waitFor("the word of readiness", 30, async () => (await readiness()).includes("503: not today"), readiness);
    expect(JSON.parse(await readiness())).toMatchObject({ ready: false, datastore: "connecting" });
    const added = await add();
    expect(added.error).toMatch(
      /calico node starts no pod now: the datastore is connecting; Cannot list \w+: the server answered 503: not today/,
    );
    await pastHolds();
    await api.make({ kind: "none" });
    await awaitReady(cluster, NS, [added.name]);
    expect(JSON.parse(await readiness())).toMatchObject({ ready: true, datastoreErrors: [] });
  });

  test("reads lists of many pages, also when the pages expire", async () => {
    await cluster.apply(namespace(PAGES));
    const policies = Array.from({ length: MANY }, (_, i) => closed(`policy-${String(i).padStart(4, "0")}`, PAGES));
    await cluster.kubectl(
      ["create", "-f", "-"],
      JSON.stringify({ apiVersion: "v1", kind: "List", items: [...policies, closed("zz-last", PAGES)] }),
    );
    await cluster.apply(pod({ namespace: PAGES, name: "zz-last", labels: { app: "zz-last" }, node: "n1" }));
    const [last] = await awaitReady(cluster, PAGES, ["zz-last"]);
    if (last === undefined) throw new Error("the pod is not there");
    await awaitReach(last, false, RECOVERY_S);
    for (const kind of ["none", "expired-pages"] as const) {
      await api.make({ kind });
      // What is taken away while the daemon is not there is known only by reading all.
      await cluster.stopDaemon("n1", "calico");
      if (kind === "none") await cluster.kubectl(["delete", "networkpolicy", "-n", PAGES, "zz-last"]);
      else await cluster.apply(closed("zz-last", PAGES));
      await api.restartNode();
      await awaitReach(last, kind === "none", 60);
      const path = "/apis/networking.k8s.io/v1/networkpolicies";
      const lists = (await api.account()).asked
        .filter(({ url }) => url.startsWith(path) && !url.includes("watch="))
        .map(({ url }) => url.replace(/limit=\d+&continue=.*/, "continue"));
      const first = `${path}?limit=${PAGE}`;
      // The objects are small: all others are on the second page. When that has expired, all is asked for at once.
      expect(lists).toEqual([first, `${path}?continue`, ...(kind === "none" ? [] : [path])]);
      await pastHolds();
    }
    expect(readFileSync(cluster.daemons.logFile("n1-calico"), "utf8")).not.toContain("BugError");
  });
});
