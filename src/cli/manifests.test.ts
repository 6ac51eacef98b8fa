/** `why` on manifests: templates, what is unknown and what is not understood. */
import { describe, expect, test } from "bun:test";
import { deployment, NAMESPACE, ONLY_FRONT, pod, policy, why } from "./test-manifests.ts";

describe("templates stand for their pods", () => {
  for (const [kind, word] of [
    ["Deployment", "deploy"],
    ["StatefulSet", "sts"],
    ["DaemonSet", "daemonsets.apps"],
    ["ReplicaSet", "rs"],
    ["ReplicationController", "rc"],
    ["Job", "job"],
    ["CronJob", "cj"],
  ] as const) {
    test(`${kind}, with labels and port names`, async () => {
      const files = NAMESPACE + deployment("web", "", kind) + deployment("front") + deployment("other") + ONLY_FRONT;
      const { code, out } = await why(files, "deploy/front", `${word}/web:8080`);
      expect(out).toStartWith(
        `shop/deployment/front → shop/${kind.toLowerCase()}/web: allowed\n  (IPv4, not known yet) → (IPv4, not known yet)\n  (IPv6, not known yet) → (IPv6, not known yet)\n    8080/tcp: allowed\n`,
      );
      expect(code).toBe(0);
      expect((await why(files, "front", "shop/web:80")).code).toBe(1);
      expect((await why(files, "shop/other", `shop/${word}/web:8080`)).code).toBe(1);
    });
  }

  test("a pod that does not run yet stands for itself", async () => {
    const files = `${NAMESPACE}---\n{apiVersion: v1, kind: Pod, metadata: {name: front, labels: {app: front}}, spec: {containers: [{name: c}]}}\n${deployment("web")}${ONLY_FRONT}`;
    expect((await why(files, "front", "web:8080")).code).toBe(0);
    expect((await why(files, "shop/", "web:8080")).out).toContain("shop/front → shop/deployment/web");
  });

  test("a pod's annotation does not say its address: it stands for itself without one", async () => {
    const front = `{apiVersion: v1, kind: Pod, metadata: {name: front, labels: {app: front}, annotations: {cni.projectcalico.org/podIPs: 10.65.0.9/32}}, spec: {nodeName: n1, containers: [{name: c}]}}`;
    const { code, out } = await why(
      `${NAMESPACE}---\n${front}\n${deployment("web")}${ONLY_FRONT}`,
      "front",
      "web:8080",
    );
    expect(out).toContain("(IPv4, not known yet)");
    expect(code).toBe(0);
  });

  test("existing pods represent themselves, and a Deployment's ReplicaSet is not a second template", async () => {
    const owned = pod("web-5f-abc", "10.65.0.4").replace(
      "labels: {app: web-5f-abc}",
      "labels: {app: web, pod-template-hash: 5f}, ownerReferences: [{kind: ReplicaSet, name: web-5f}]",
    );
    const set = deployment("web-5f", "", "ReplicaSet").replace(
      "name: web-5f,",
      "name: web-5f, ownerReferences: [{kind: Deployment, name: web}],",
    );
    const { out } = await why(
      NAMESPACE + owned + set + deployment("web") + deployment("front"),
      "front",
      "deploy/web:80",
    );
    expect(out).toStartWith("shop/deployment/front → shop/web-5f-abc: allowed\n  (IPv4, not known yet) → 10.65.0.4\n");
    expect(
      (await why(NAMESPACE + owned + set + deployment("web") + deployment("front"), "front", "shop/")).out.split("→")
        .length,
    ).toBe(2);
  });

  test("a service account that is not named is the default one", async () => {
    const asks = policy(
      "account",
      "{podSelector: {matchLabels: {projectcalico.org/serviceaccount: default}}, policyTypes: [Ingress]}",
    );
    expect((await why(NAMESPACE + deployment("web") + deployment("front") + asks, "front", "web:80")).code).toBe(1);
    expect(
      (
        await why(
          NAMESPACE + deployment("web", "serviceAccountName: own,") + deployment("front") + asks,
          "front",
          "web:80",
        )
      ).code,
    ).toBe(0);
  });

  test("a name that is a namespace's too must be written out", async () => {
    const files = `${NAMESPACE + deployment("web") + deployment("front")}---\n{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: deployment}, spec: {}}\n`;
    await expect(why(files, "front", "deploy/web")).rejects.toThrow("write shop/deployment/web or deployment/pod/web");
    expect((await why(files, "front", "deployment/pod/web:80")).out).toStartWith(
      "shop/deployment/front → deployment/web: ",
    );
    await expect(
      why(NAMESPACE + deployment("web") + deployment("web", "", "Job") + deployment("front"), "front", "web"),
    ).rejects.toThrow("more than one thing: write shop/deployment/web or shop/job/web");
  });
});

test("a name that is somewhere else is pointed out", async () => {
  await expect(why(NAMESPACE + deployment("web"), "web", "other/web")).rejects.toThrow(
    'Cannot find pod "other/web"; there is shop/deployment/web',
  );
  await expect(why(NAMESPACE + deployment("web"), "web", "other/")).rejects.toThrow(
    'in namespace "other"; there is shop/',
  );
});

test("manifests without a policy are reported", async () => {
  expect(await why(NAMESPACE + deployment("web") + deployment("front"), "front", "web")).toMatchObject({
    code: 0,
    error: "warning: the manifests hold no NetworkPolicy: as far as they say, everything is allowed\n",
  });
  expect((await why(NAMESPACE + deployment("web") + deployment("front") + ONLY_FRONT, "front", "web:8080")).error).toBe(
    "",
  );
});

test("a namespace of one pod has no pairs, which is an error", async () => {
  await expect(why(NAMESPACE + deployment("web"), "shop/", "shop/")).rejects.toThrow("Cannot find a pair to explain");
  await expect(why(NAMESPACE + deployment("web"), "shop/", "web:80")).rejects.toThrow("Cannot find a pair to explain");
});

describe("what is not known is not taken for certain", () => {
  const WEB = "podSelector: {matchLabels: {app: web}}";

  test("an address in a block", async () => {
    const files =
      NAMESPACE +
      deployment("web") +
      deployment("front") +
      policy("blocks", `{${WEB}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}, {ipBlock: {cidr: 'fd00::/8'}}]}]}`);
    const { code, out } = await why(files, "front", "web:80");
    expect(code).toBe(2);
    expect(out).toStartWith("shop/deployment/front → shop/deployment/web: not known\n");
    expect(out).toContain(
      "    80/tcp: not known\n      leaving shop/deployment/front: allowed: no policy selects it for egress\n      entering shop/deployment/web: denied: no ingress rule",
    );
    expect(out).toContain(
      "        or, by what is not known: allowed by ingress rule 1 of NetworkPolicy shop/blocks (spec.ingress[0])\n",
    );
    expect(out).toContain("not certain: not known, and it may decide: the address of shop/deployment/front\n");
    const answer = JSON.parse((await why(files, "front", "web:80", "json")).out);
    expect([answer.allowed, answer.certain, answer.pairs[0].answers[0].source]).toEqual([false, false, null]);
  });

  test("an address in the whole of its family is known well enough, and so is one that cannot matter", async () => {
    const all = policy("all", `{${WEB}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: '::/0'}}]}]}`);
    expect((await why(NAMESPACE + deployment("web") + deployment("front") + all, "front", "web:80")).code).toBe(0);
    const closed = policy(
      "closed",
      `{${WEB}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 81}]}]}`,
    );
    expect((await why(NAMESPACE + deployment("web") + deployment("front") + closed, "front", "web:80")).code).toBe(1);
    const beside = policy(
      "beside",
      `{${WEB}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}, {from: [{podSelector: {}}]}]}`,
    );
    expect((await why(NAMESPACE + deployment("web") + deployment("front") + beside, "front", "web:80")).code).toBe(0);
  });

  test("an exception of a block", async () => {
    const except = policy(
      "except",
      `{${WEB}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}]}`,
    );
    expect((await why(NAMESPACE + deployment("web") + deployment("front") + except, "front", "web:80")).code).toBe(2);
    expect((await why(NAMESPACE + deployment("web") + except, "192.0.2.1", "web:80")).code).toBe(0);
    expect((await why(NAMESPACE + deployment("web") + except, "10.1.2.3", "web:80")).code).toBe(1);
  });

  test("labels of a namespace without a Namespace object; its name is known", async () => {
    const asks = (labels: string): string =>
      policy("spaces", `{${WEB}, ingress: [{from: [{namespaceSelector: {matchLabels: {${labels}}}}]}]}`);
    const files = `${NAMESPACE + deployment("web")}---\n{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: team}, spec: {}}\n`;
    const { code, out } = await why(files + asks("team: blue"), "team/a", "web:80");
    expect([code, out]).toEqual([
      2,
      expect.stringContaining("the labels of namespace team (there is no Namespace object)"),
    ]);
    expect((await why(files + asks("kubernetes.io/metadata.name: team"), "team/a", "web:80")).code).toBe(0);
    expect((await why(files + asks("kubernetes.io/metadata.name: other, team: blue"), "team/a", "web:80")).code).toBe(
      1,
    );
    const known = "---\n{apiVersion: v1, kind: Namespace, metadata: {name: team, labels: {team: blue}}}\n";
    expect((await why(files + known + asks("team: blue"), "team/a", "web:80")).code).toBe(0);
    expect((await why(files + known + asks("team: red"), "team/a", "web:80")).code).toBe(1);
    expect((await why(files + known + asks("kubernetes.io/metadata.name: team"), "team/a", "web:80")).code).toBe(0);
  });

  test("labels that a controller adds", async () => {
    const later = policy("later", "{podSelector: {matchLabels: {pod-template-hash: abc}}, policyTypes: [Ingress]}");
    const { code, out } = await why(NAMESPACE + deployment("web") + deployment("front") + later, "front", "web:80");
    expect([code, out]).toEqual([
      2,
      expect.stringContaining("not certain: NetworkPolicy shop/later asks for the label pod-template-hash"),
    ]);
  });

  test("whether a node is the pod's own", async () => {
    const node =
      "---\n{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}\n";
    const closed = policy("closed", `{${WEB}, policyTypes: [Ingress]}`);
    const { code, out } = await why(NAMESPACE + node + deployment("web") + closed, "192.0.2.1", "web:80");
    expect([code, out]).toEqual([
      2,
      expect.stringContaining("or, by what is not known: allowed: comes from the pod's own node"),
    ]);
    expect(out.match(/^not certain: .*$/gm)).toEqual([
      "not certain: not known, and it may decide: whether shop/deployment/web runs on the node that sends",
    ]);
    expect((await why(NAMESPACE + node + deployment("web") + closed, "192.0.2.2", "web:80")).code).toBe(1);
    expect(
      (await why(NAMESPACE + deployment("web") + deployment("agent", "hostNetwork: true,") + closed, "agent", "web:80"))
        .code,
    ).toBe(2);
    expect(
      (await why(NAMESPACE + deployment("web") + deployment("agent", "hostNetwork: true,") + closed, "web", "agent:80"))
        .code,
    ).toBe(0);
  });

  test("an address that may be a pod's is treated as one outside, with a warning", async () => {
    const { code, error } = await why(NAMESPACE + deployment("web"), "10.1.2.3", "web:80");
    expect([code, error]).toEqual([0, expect.stringContaining("10.1.2.3 is taken for an address outside the cluster")]);
    expect((await why(NAMESPACE + pod("web", "10.65.0.4") + ONLY_FRONT, "10.1.2.3", "web:80")).error).toBe("");
  });
});

describe("what is not understood is named, and the answer not certain", () => {
  const FILES = NAMESPACE + pod("web", "10.65.0.4") + pod("front", "10.65.0.5");
  for (const [apiVersion, kind, namespace] of [
    ["projectcalico.org/v4", "NetworkPolicy", "shop"],
    ["projectcalico.org/v4", "GlobalNetworkPolicy", ""],
    ["policy.networking.k8s.io/v1beta1", "AdminNetworkPolicy", ""],
    ["policy.networking.k8s.io/v1beta1", "BaselineAdminNetworkPolicy", ""],
    ["policy.networking.k8s.io/v1alpha3", "ClusterNetworkPolicy", ""],
    ["cilium.io/v2", "CiliumNetworkPolicy", "shop"],
    ["cilium.io/v2", "CiliumClusterwideNetworkPolicy", ""],
    ["crd.antrea.io/v1beta1", "NetworkPolicy", "shop"],
    ["crd.antrea.io/v1beta1", "ClusterNetworkPolicy", ""],
    ["security.istio.io/v1", "AuthorizationPolicy", "shop"],
    ["k8s.ovn.org/v1", "EgressFirewall", "shop"],
    ["example.com/v1", "SuperNetworkPolicy", "shop"],
    ["extensions/v1beta1", "NetworkPolicy", "shop"],
    ["networking.k8s.io/v1beta1", "NetworkPolicy", "shop"],
  ] as const) {
    test(`${kind} of ${apiVersion}`, async () => {
      const object = `---\n{apiVersion: ${apiVersion}, kind: ${kind}, metadata: {name: x${namespace === "" ? "" : `, namespace: ${namespace}`}}, spec: {}}\n`;
      const { code, out } = await why(FILES + object, "front", "web:80");
      expect(code).toBe(2);
      expect(out).toStartWith("shop/front → shop/web: allowed, but not certainly\n");
      expect(out).toContain(`not certain: ${kind} (${apiVersion}) ${namespace === "" ? "" : "shop/"}x: not understood`);
      const answer = JSON.parse((await why(FILES + object, "front", "web:80", "json")).out);
      expect([answer.allowed, answer.certain, answer.warnings.length, answer.pairs[0].answers[0].certain]).toEqual([
        true,
        false,
        1,
        false,
      ]);
    });
  }

  test("a policy of another namespace does not affect the answer, but is reported", async () => {
    const object =
      "---\n{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: x, namespace: other}, spec: {}}\n";
    expect(await why(FILES + object, "front", "web:80")).toMatchObject({
      code: 0,
      error: "warning: CiliumNetworkPolicy (cilium.io/v2) other/x: not understood, and may decide otherwise\n",
    });
  });
});
