import { describe, expect, test } from "bun:test";
import type { ServiceAccountRow } from "../model/convert/service-account.ts";
import type { EndpointRow } from "../model/endpoint.ts";
import type { KeyText } from "../model/key.ts";
import { NAMESPACE_LABEL, ORCHESTRATOR_LABEL, SERVICE_ACCOUNT_LABEL } from "../model/labels.ts";
import { parseSelector } from "../model/selector/parse.ts";
import { TCP } from "../net/protocol.ts";
import type { Addr } from "../net/addr.ts";
import { unwrap } from "../lib/result.ts";
import { type EndpointInputs, Endpoints, type EndpointsDelta } from "./endpoints.ts";
import { SelectorIndex } from "./selector-index.ts";

function row(
  labels: Readonly<Record<string, string>>,
  addresses: readonly string[] = ["10.0.0.1"],
  port = 80,
): EndpointRow {
  const given = { [NAMESPACE_LABEL]: "a", [ORCHESTRATOR_LABEL]: "k8s", [SERVICE_ACCOUNT_LABEL]: "robot" };
  return {
    uid: undefined,
    node: "n2",
    namespace: "a",
    serviceAccount: "robot",
    labels: new Map(Object.entries({ ...labels, ...given })),
    state: "live",
    addresses: addresses as readonly Addr[],
    addressesFrom: "status",
    ports: [{ name: "http", protocol: TCP, port }],
  };
}

function inputs(
  endpoints: Readonly<Record<string, EndpointRow | undefined>>,
  serviceAccounts: Readonly<Record<string, ServiceAccountRow | undefined>> = {},
): EndpointInputs {
  const none = new Map<never, never>();
  return {
    endpoints: new Map(Object.entries(endpoints)) as ReadonlyMap<
      string,
      EndpointRow | undefined
    > as EndpointInputs["endpoints"],
    serviceAccounts: new Map(Object.entries(serviceAccounts)) as ReadonlyMap<
      string,
      ServiceAccountRow | undefined
    > as EndpointInputs["serviceAccounts"],
    namespaces: none,
    blocks: none,
    records: none,
  };
}

function groupIn(delta: EndpointsDelta, key: string): unknown {
  return delta.rows.get(key as KeyText)?.now?.group;
}

describe("groups", () => {
  test("endpoints with equal labels, parents and ports are one group, whatever the order of their labels", () => {
    const endpoints = new Endpoints("n1");
    const delta = endpoints.step(
      inputs({
        a: row({ app: "web", tier: "x" }),
        b: row({ tier: "x", app: "web" }, ["10.0.0.2"]),
        c: row({ app: "web", tier: "y" }),
        d: row({ app: "web", tier: "x" }, ["10.0.0.4"], 81),
      }),
    );
    expect(groupIn(delta, "a")).toBe(groupIn(delta, "b"));
    expect(new Set(["a", "c", "d"].map((key) => groupIn(delta, key))).size).toBe(3);
    expect(endpoints.groups.size).toEqual({ groups: 3, terms: 6, parents: 2 });
  });

  test("labels whose text runs together are still different labels", () => {
    const delta = new Endpoints("n1").step(inputs({ a: row({ "x=y": "z" }), b: row({ x: "y=z" }) }));
    expect(groupIn(delta, "a")).not.toBe(groupIn(delta, "b"));
  });

  test("an endpoint that is repeated unchanged is no change", () => {
    const endpoints = new Endpoints("n1");
    endpoints.step(inputs({ a: row({ app: "web" }) }));
    expect(endpoints.step(inputs({ a: row({ app: "web" }) })).rows.size).toBe(0);
    expect(endpoints.step(inputs({ a: row({ app: "web" }, ["10.0.0.2"]) })).rows.size).toBe(1);
  });
});

test("endpoints that were added, changed and removed leave nothing behind: no group, label, parent or index entry", () => {
  const endpoints = new Endpoints("n1");
  const index = new SelectorIndex();
  const step = (...args: Parameters<typeof inputs>): void => index.step(endpoints.step(inputs(...args)), () => {});
  index.addSelector("s", unwrap(parseSelector("app == 'web'")));
  index.addSelector("inherited", unwrap(parseSelector("pcsa.team == 'red'")));
  const account: ServiceAccountRow = { profile: new Map([["pcsa.team", "red"]]) };
  for (let i = 0; i < 20; i++) {
    step({ a: row({ app: "web", i: `${i}` }), b: row({ app: `${i % 3}` }) }, { "ServiceAccount/a/robot": account });
    step({ a: row({ app: "web", i: `${i}` }), b: i % 2 === 0 ? undefined : row({ app: "web" }) });
  }
  expect([endpoints.groups.size.groups, index.size]).toEqual([2, 2]);
  expect([...index.rowsOf("s")].map(({ key }) => key as string).sort()).toEqual(["a", "b"]);
  expect([...index.rowsOf("inherited")].length).toBe(2);
  step({ a: undefined, b: undefined }, { "ServiceAccount/a/robot": undefined });
  expect([endpoints.groups.size, index.size]).toEqual([{ groups: 0, terms: 0, parents: 0 }, 0]);
  expect([...index.rowsOf("s")]).toEqual([]);
});
