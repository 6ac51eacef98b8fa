/** POL-1 to POL-3: which pods there are, and what policy sees of them. */
import { test } from "bun:test";
import { expectVerdicts, type PodWords, type World } from "./dsl.ts";

const SERVER: PodWords = { labels: { app: "db" }, addresses: ["10.0.0.1", "fd00::1"] };
const WEB_ONLY = "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}";

/** A server that only `app: web` of its namespace may reach, and one more pod. */
function withPeer(peer: PodWords): World {
  return {
    pods: { "alpha/server": SERVER, "alpha/peer": { labels: { app: "web" }, ...peer } },
    policies: { "alpha/p": WEB_ONLY },
  };
}

const PEER_ADDRESSES = ["10.0.0.2", "fd00::2"];

test("POL-1: a pod with addresses of both families is a peer on both", () => {
  expectVerdicts(
    withPeer({ addresses: PEER_ADDRESSES }),
    `
    10.0.0.2 → 10.0.0.1/tcp:80 allow ingress rule 0 of alpha/p
    fd00::2 → fd00::1/tcp:80 allow ingress rule 0 of alpha/p
    10.0.0.3 → 10.0.0.1/tcp:80 deny no ingress rule of alpha/p
    fd00::3 → fd00::1/tcp:80 deny no ingress rule of alpha/p`,
  );
});

for (const [what, words] of [
  ["that succeeded", { phase: "Succeeded" }],
  ["that failed", { phase: "Failed" }],
  ["torn down (podIP)", { annotations: { "cni.projectcalico.org/podIP": "" } }],
  ["torn down (podIPs)", { annotations: { "cni.projectcalico.org/podIPs": "" } }],
  ["on its host's network", { hostNetwork: true }],
  ["that is not scheduled", { node: "" }],
  ["one of whose addresses cannot be read", { addresses: ["10.0.0.2", "10.0.0.256"] }],
] as const) {
  test(`POL-1: a pod ${what} is no peer`, () => {
    expectVerdicts(
      withPeer({ addresses: PEER_ADDRESSES, ...words }),
      `
      10.0.0.2 → 10.0.0.1/tcp:80 deny
      fd00::2 → fd00::1/tcp:80 deny`,
    );
  });
}

for (const [what, words] of [["pending with addresses", { phase: "Pending", addresses: PEER_ADDRESSES }]] as const) {
  test(`POL-1: a pod ${what} is a peer`, () => {
    expectVerdicts(
      withPeer(words),
      `
      10.0.0.2 → 10.0.0.1/tcp:80 allow
      fd00::2 → fd00::1/tcp:80 allow`,
    );
  });
}

const CLAIMS = { annotations: { "cni.projectcalico.org/podIPs": "10.0.0.2/32,fd00::2/128" } };

for (const [what, held, verdicts] of [
  ["that blocks record for it", { "10.0.0.2": "alpha/peer", "fd00::2": "alpha/peer" }, ["allow", "allow"]],
  ["that no block records", {}, ["deny", "deny"]],
  ["of which one is recorded", { "fd00::2": "alpha/peer" }, ["deny", "allow"]],
  [
    "that blocks record for a pod of its name elsewhere",
    { "10.0.0.2": "beta/peer", "fd00::2": "beta/peer" },
    ["deny", "deny"],
  ],
  ["that blocks record for its neighbour", { "10.0.0.2": "alpha/other", "fd00::2": "alpha/other" }, ["deny", "deny"]],
] as const) {
  const blocks = Object.fromEntries(
    [
      ["10.0.0.0/26", "."],
      ["fd00::/122", ":"],
    ].map(([cidr = "", sign = ""]) => [
      cidr,
      Object.fromEntries(Object.entries(held).filter(([addr]) => addr.includes(sign))),
    ]),
  );
  test(`POL-1: annotated addresses ${what}`, () => {
    expectVerdicts(
      { ...withPeer(CLAIMS), blocks },
      `
      10.0.0.2 → 10.0.0.1/tcp:80 ${verdicts[0]}
      fd00::2 → fd00::1/tcp:80 ${verdicts[1]}`,
    );
  });
}

test("POL-1: what status reports needs no block", () => {
  expectVerdicts(
    { ...withPeer({ addresses: PEER_ADDRESSES }), blocks: { "10.0.0.0/26": { "10.0.0.2": "beta/else" } } },
    "10.0.0.2 → 10.0.0.1/tcp:80 allow",
  );
});

test("POL-1: status wins over the annotation", () => {
  expectVerdicts(
    withPeer({ addresses: ["10.0.0.2"], annotations: { "cni.projectcalico.org/podIPs": "10.0.0.3/32" } }),
    `
    10.0.0.2 → 10.0.0.1/tcp:80 allow
    10.0.0.3 → 10.0.0.1/tcp:80 deny`,
  );
});

test("POL-1: a finished pod lends its next owner nothing", () => {
  const world = withPeer({ addresses: ["10.0.0.2"], phase: "Succeeded" });
  expectVerdicts(
    { ...world, pods: { ...world.pods, "alpha/next": { labels: { app: "other" }, addresses: ["10.0.0.2"] } } },
    "10.0.0.2 → 10.0.0.1/tcp:80 deny",
  );
});

test("POL-1: a pod without address affects no traffic", () => {
  const world = withPeer({ addresses: PEER_ADDRESSES });
  expectVerdicts(
    { ...world, pods: { "alpha/starting": { labels: { app: "web" } }, ...world.pods } },
    "alpha/peer → alpha/server/tcp:80 allow",
  );
});

test("POL-2: a pod cannot pretend to inherit or to be elsewhere", () => {
  const liar = {
    addresses: ["10.0.0.9", "fd00::9"],
    labels: {
      "pcns.team": "red",
      "pcsa.role": "admin",
      "projectcalico.org/namespace": "alpha",
      "projectcalico.org/serviceaccount": "root",
    },
  };
  const world: World = {
    namespaces: { alpha: { team: "red" }, beta: {} },
    pods: { "alpha/server": SERVER, "alpha/friend": { addresses: ["10.0.0.2", "fd00::2"] }, "beta/liar": liar },
  };
  const only = (peer: string): World => ({
    ...world,
    policies: { "alpha/p": `{podSelector: {}, ingress: [{from: [${peer}]}]}` },
  });
  const denied = "beta/liar → alpha/server/tcp:80 deny\nalpha/friend → alpha/server/tcp:80 allow";
  expectVerdicts(only("{namespaceSelector: {matchLabels: {team: red}}}"), denied);
  expectVerdicts(only("{podSelector: {}}"), denied);
  expectVerdicts(
    only("{namespaceSelector: {}, podSelector: {matchLabels: {projectcalico.org/namespace: alpha}}}"),
    denied,
  );
  expectVerdicts(
    only("{namespaceSelector: {}, podSelector: {matchLabels: {projectcalico.org/serviceaccount: root}}}"),
    "beta/liar → alpha/server/tcp:80 deny",
  );
});

test("POL-2: service account and the name of a namespace are labels; the name cannot be overwritten", () => {
  const world: World = {
    namespaces: { alpha: {}, beta: { "projectcalico.org/name": "alpha" } },
    pods: {
      "alpha/server": SERVER,
      "alpha/a": { addresses: ["10.0.0.2"], serviceAccount: "robot" },
      "beta/b": { addresses: ["10.0.0.3"] },
    },
  };
  expectVerdicts(
    {
      ...world,
      policies: {
        "alpha/p":
          "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {projectcalico.org/name: alpha}}}]}]}",
      },
    },
    `
    alpha/a → alpha/server/tcp:80 allow
    beta/b → alpha/server/tcp:80 deny`,
  );
  expectVerdicts(
    {
      ...world,
      policies: {
        "alpha/p":
          "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {projectcalico.org/serviceaccount: robot}}}]}]}",
      },
    },
    "alpha/a → alpha/server/tcp:80 allow",
  );
});

test("POL-2: labels of a namespace that is not known are absent", () => {
  const world: World = { pods: { "alpha/server": SERVER, "nowhere/a": { addresses: ["10.0.0.2"] } } };
  expectVerdicts(
    {
      ...world,
      policies: {
        "alpha/p":
          "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}}]}]}",
      },
    },
    "nowhere/a → alpha/server/tcp:80 deny",
  );
  expectVerdicts(
    {
      ...world,
      policies: {
        "alpha/p":
          "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [red]}]}}]}]}",
      },
    },
    "nowhere/a → alpha/server/tcp:80 allow",
  );
});

test("POL-3: an address stands for every pod that has it", () => {
  const world: World = {
    pods: {
      "alpha/server": SERVER,
      "alpha/old": { labels: { app: "web" }, addresses: ["10.0.0.2"] },
      "alpha/new": { labels: { app: "other" }, addresses: ["10.0.0.2"] },
    },
    policies: { "alpha/p": WEB_ONLY },
  };
  expectVerdicts(world, "10.0.0.2 → 10.0.0.1/tcp:80 allow");
});
