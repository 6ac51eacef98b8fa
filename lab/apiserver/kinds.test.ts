import { afterAll, beforeAll, expect, test } from "bun:test";
import { KINDS } from "../../src/model/kind.ts";
import { CRDS } from "../../src/model/kinds/crds.ts";
import type { JsonObject } from "../../src/model/schema/json.ts";
import { stringAt } from "../../src/model/schema/json.ts";
import { POLICY_CASES } from "../../test/kinds/policies.ts";
import { RULE_CASES } from "../../test/kinds/rules.ts";
import { SETTINGS_CASES } from "../../test/kinds/settings.ts";
import { CALICO_ADMISSION, CALICO_ADVICE } from "./admission.ts";
import { TestServer } from "./test-client.ts";

const CASES = [...RULE_CASES, ...POLICY_CASES, ...SETTINGS_CASES].filter(({ onlyHere }) => !onlyHere);
const server = new TestServer({ admission: CALICO_ADMISSION, advice: CALICO_ADVICE });

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
    spec: { bpfEnabled: true },
  });
  expect([reply.status, reply.headers.get("warning")]).toEqual([
    201,
    expect.stringContaining("spec.bpfEnabled: true has no effect"),
  ]);
});
