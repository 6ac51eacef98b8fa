/** The embedded API keeps the CEL rules of definitions as Kubernetes does, those of our pools among them. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { TestServer } from "../../src/apiserver/test-client.ts";
import { CRDS } from "../../src/model/kinds/crds.ts";
import { isJsonObject, type JsonObject } from "../../src/model/schema/json.ts";
import { POOL_CASES, runPoolCase } from "./pool-cases.ts";
import { DEFINITION_CASES, errorsOf, OBJECT_CASES, type RuleServer, runDefinitionCase, runObjectCase } from "./rule-cases.ts";

const server = new TestServer();
beforeAll(async () => {
  await server.start();
  for (const definition of CRDS) {
    const reply = await server.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json(definition));
    expect([reply.status, reply.headers.get("warning")]).toEqual([201, null]);
  }
});
afterAll(() => server.close());

function json(value: object): JsonObject {
  return JSON.parse(JSON.stringify(value)) as JsonObject;
}

const embedded: RuleServer = {
  create: async (path, object) => {
    const reply = await server.call("POST", path, json(object));
    return reply.status === 201 ? [] : errorsOf(reply.body);
  },
  replace: async (path, changes) => {
    const current = (await server.call("GET", path)).body;
    const reply = await server.call("PUT", path, { ...current, ...json(changes) });
    return reply.status === 200 ? [] : errorsOf(reply.body);
  },
  served: async (path) => (await server.call("GET", path)).status === 200,
  remove: async (path) => void (await server.call("DELETE", path)),
};

test.each(OBJECT_CASES.map((entry, index) => [entry.name, entry, index] as const))("objects: %s", async (_, entry, index) => {
  expect((await runObjectCase(embedded, entry, index)).map((errors) => [...errors].sort())).toEqual(entry.steps.map(({ errors = [] }) => [...errors].sort()));
});

test.each(DEFINITION_CASES.map((entry) => [entry.name, entry] as const))("definitions: %s", async (_, entry) => {
  expect(await runDefinitionCase(embedded, entry)).toEqual(entry.errors);
});

test.each(POOL_CASES.map((entry) => [entry.name, entry] as const))("pools: %s", async (_, entry) => {
  expect(await runPoolCase(embedded, entry)).toEqual(entry.errors);
});

test("a function that this API does not have refuses the definition", async () => {
  const schema = { type: "object", properties: { a: { type: "string" } }, "x-kubernetes-validations": [{ rule: "isQuantity(self.a)" }] };
  const [error = ""] = await runDefinitionCase(embedded, { name: "", schema, errors: [] });
  expect(error).toContain("undeclared reference to 'isQuantity' (in container '')");
});

test("rules over the whole object, its status included", async () => {
  const rules = [
    { rule: "self.metadata.name != 'bad'", message: "bad name" },
    { rule: "!has(self.status) || self.status.n < 5", message: "n too big" },
  ];
  const schema = { type: "object", properties: { spec: { type: "object" }, status: { type: "object", properties: { n: { type: "integer" } } } }, "x-kubernetes-validations": rules };
  const definition = {
    apiVersion: "apiextensions.k8s.io/v1", kind: "CustomResourceDefinition", metadata: { name: "wholes.rules.example.com" },
    spec: { group: "rules.example.com", names: { plural: "wholes", kind: "Whole" }, scope: "Cluster", versions: [{ name: "v1", served: true, storage: true, subresources: { status: {} }, schema: { openAPIV3Schema: schema } }] },
  };
  expect((await server.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json(definition))).status).toBe(201);
  const whole = (name: string): JsonObject => ({ apiVersion: "rules.example.com/v1", kind: "Whole", metadata: { name }, spec: {} });
  expect(errorsOf((await server.call("POST", "/apis/rules.example.com/v1/wholes", whole("bad"))).body)).toEqual(['<nil>: Invalid value: "object": bad name']);
  expect((await server.call("POST", "/apis/rules.example.com/v1/wholes", whole("good"))).status).toBe(201);
  const patch = (n: number): Promise<{ status: number; body: JsonObject }> => server.call("PATCH", "/apis/rules.example.com/v1/wholes/good/status", { status: { n } }, { type: "application/merge-patch+json" });
  const refused = await patch(9);
  expect([refused.status, errorsOf(refused.body)]).toEqual([422, ['<nil>: Invalid value: "object": n too big']]);
  const accepted = await patch(4);
  expect([accepted.status, isJsonObject(accepted.body["status"]) && accepted.body["status"]["n"]]).toEqual([200, 4]);
});
