/** What users are told of policies that they get wrong: by calicoctl, and by the API that kubectl asks. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { load } from "js-yaml";
import { CALICO_ADMISSION, CALICO_ADVICE, CALICO_RETENTION } from "../../lab/apiserver/admission.ts";
import { TestServer } from "../../lab/apiserver/test-client.ts";
import { runValidate } from "../../src/cli/verbs/run-files.ts";
import { CRDS } from "../../src/model/kinds/crds.ts";
import type { JsonObject } from "../../src/model/schema/json.ts";
import { objectAt, stringAt } from "../../src/model/schema/json.ts";
import { MISTAKES } from "./policy-mistakes.ts";

const server = new TestServer({ admission: CALICO_ADMISSION, advice: CALICO_ADVICE, retention: CALICO_RETENTION });
/** By kind; of Calico's and of Kubernetes' NetworkPolicy it is the same. */
const PLURALS: Readonly<Record<string, string>> = {
  ...Object.fromEntries(CRDS.map(({ spec }) => [spec.names.kind, spec.names.plural])),
  NetworkPolicy: "networkpolicies",
};

beforeAll(async () => {
  await server.start();
  for (const definition of CRDS) {
    const body = JSON.parse(JSON.stringify(definition)) as JsonObject;
    expect((await server.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)).status).toBe(
      201,
    );
  }
  const shop = { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } };
  expect((await server.call("POST", "/api/v1/namespaces", shop)).status).toBe(201);
});
afterAll(() => server.close());

async function validate(text: string): Promise<{ readonly code: number; readonly error: string }> {
  try {
    const stdin = async (): Promise<Uint8Array> => new TextEncoder().encode(text);
    const options = { files: ["-"], recursive: false, skipEmpty: false, namespace: undefined, stdin };
    return await runValidate({ ...options, reader: "calicoctl validate -f -" }, "text");
  } catch (error) {
    return { code: 1, error: error instanceof Error ? error.message : String(error) };
  }
}

describe.each(MISTAKES.map((each) => [each.title, each] as const))("%s", (_, { text, isValid, calicoctl, api }) => {
  test("calicoctl", async () => {
    const { code, error } = await validate(text);
    expect([code === 0, error]).toEqual([isValid, expect.stringContaining(calicoctl)]);
  });

  if (api === undefined) return;
  test("the API", async () => {
    const object = load(text) as JsonObject;
    const namespace = stringAt(objectAt(object["metadata"])["namespace"]);
    const place = namespace === "" ? "" : `namespaces/${namespace}/`;
    const path = `/apis/${stringAt(object["apiVersion"])}/${place}${PLURALS[stringAt(object["kind"])]}`;
    const { status, body, headers } = await server.call("POST", `${path}?dryRun=All&fieldValidation=Strict`, object);
    const said = `${stringAt(body["message"])}${(headers.get("warning") ?? "").replaceAll('\\"', '"')}`;
    expect([status < 300, said]).toEqual([isValid, expect.stringContaining(api)]);
  });
});

test("a tier that does not exist is accepted with a warning, until it does", async () => {
  const create = async (): Promise<string | null> => {
    const path = "/apis/projectcalico.org/v3/globalnetworkpolicies?dryRun=All";
    const [apiVersion, kind, metadata] = ["projectcalico.org/v3", "GlobalNetworkPolicy", { name: "later.web" }];
    const { status, headers } = await server.call("POST", path, {
      apiVersion,
      kind,
      metadata,
      spec: { tier: "later" },
    });
    expect(status).toBe(201);
    return headers.get("warning");
  };
  expect(await create()).toContain('spec.tier: \\"later\\" does not exist: until it does, the policy comes after all');
  const tier = { apiVersion: "projectcalico.org/v3", kind: "Tier", metadata: { name: "later" }, spec: { order: 5 } };
  expect((await server.call("POST", "/apis/projectcalico.org/v3/tiers", tier)).status).toBe(201);
  expect(await create()).toBeNull();
});

test("each is told of where nothing refuses it", () => {
  expect(MISTAKES.filter(({ calicoctl }) => calicoctl === "")).toEqual([]);
  expect(MISTAKES.length).toBeGreaterThanOrEqual(40);
});
