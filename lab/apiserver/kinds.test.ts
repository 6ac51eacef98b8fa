import { afterAll, beforeAll, expect, test } from "bun:test";
import { KINDS } from "../../src/model/kind.ts";
import { CRDS } from "../../src/model/kinds/crds.ts";
import type { JsonObject } from "../../src/model/schema/json.ts";
import { stringAt } from "../../src/model/schema/json.ts";
import { POLICY_CASES } from "../../test/kinds/policies.ts";
import { RULE_CASES } from "../../test/kinds/rules.ts";
import { SETTINGS_CASES } from "../../test/kinds/settings.ts";
import { CALICO_ADMISSION, CALICO_ADVICE, CALICO_RETENTION } from "./admission.ts";
import { TestServer } from "./test-client.ts";

const CASES = [...RULE_CASES, ...POLICY_CASES, ...SETTINGS_CASES].filter(({ onlyHere }) => !onlyHere);
const server = new TestServer({ admission: CALICO_ADMISSION, advice: CALICO_ADVICE, retention: CALICO_RETENTION });

beforeAll(async () => {
  await server.start();
  for (const definition of CRDS) {
    const body = JSON.parse(JSON.stringify(definition)) as JsonObject;
    const reply = await server.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body);
    expect(reply.status).toBe(201);
  }
});
afterAll(() => server.close());

test.each(CASES.map((each) => [each.title, each] as const))(
  "the API answers as the validator does: %s",
  async (_, { kind, object, refused, words }) => {
    const { apiVersion, plural, namespaced } = KINDS[kind];
    const path = `/apis/${apiVersion}/${namespaced ? "namespaces/default/" : ""}${plural}?dryRun=All`;
    const reply = await server.call("POST", path, object);
    const message = stringAt(reply.body["message"]);
    if (refused.length === 0) expect([reply.status, message]).toEqual([201, ""]);
    else {
      expect(reply.status).toBe(422);
      // Rules in CEL come first: the server does not look for other errors when one is broken.
      expect(refused.some((field) => message.includes(field))).toBeTrue();
      if (refused.length === 1) expect(message).toContain(words);
    }
  },
);

test("a setting without effect is stored with a warning", async () => {
  const reply = await server.call("POST", "/apis/projectcalico.org/v3/felixconfigurations?dryRun=All", {
    apiVersion: "projectcalico.org/v3",
    kind: "FelixConfiguration",
    metadata: { name: "default" },
    spec: { wireguardEnabled: true },
  });
  expect([reply.status, reply.headers.get("warning")]).toEqual([
    201,
    expect.stringContaining("spec.wireguardEnabled: true has no effect"),
  ]);
});

test("a tier that is built in or has policies is not deleted", async () => {
  const tiers = "/apis/projectcalico.org/v3/tiers";
  const policies = "/apis/projectcalico.org/v3/globalnetworkpolicies";
  const tier = (name: string, order: number): JsonObject => ({
    apiVersion: "projectcalico.org/v3",
    kind: "Tier",
    metadata: { name },
    spec: { order, ...(name === "kube-baseline" ? { defaultAction: "Pass" } : {}) },
  });
  for (const each of [tier("security", 7), tier("kube-baseline", 10_000_000)])
    expect(await server.call("POST", tiers, each)).toMatchObject({ status: 201 });
  const policy = {
    apiVersion: "projectcalico.org/v3",
    kind: "GlobalNetworkPolicy",
    metadata: { name: "security.web" },
    spec: { tier: "security" },
  };
  expect(await server.call("POST", policies, policy)).toMatchObject({ status: 201 });
  const forbidden = async (path: string): Promise<readonly unknown[]> => {
    const { status, body } = await server.call("DELETE", path);
    return [status, body["message"]];
  };
  const held = [
    403,
    'tiers.projectcalico.org "security" is forbidden: this tier has policies, among them GlobalNetworkPolicy security.web: delete them or move them to another tier first',
  ];
  expect(await forbidden(`${tiers}/security`)).toEqual(held);
  expect(await forbidden(`${tiers}?fieldSelector=metadata.name=security`)).toEqual(held);
  expect(await forbidden(`${tiers}/kube-baseline`)).toEqual([
    403,
    'tiers.projectcalico.org "kube-baseline" is forbidden: this tier is built in and may not be deleted',
  ]);
  expect(await server.call("DELETE", `${policies}/security.web`)).toMatchObject({ status: 200 });
  expect(await server.call("DELETE", `${tiers}/security`)).toMatchObject({ status: 200 });
});
