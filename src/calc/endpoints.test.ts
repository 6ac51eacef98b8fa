import { expect, test } from "bun:test";
import type { EndpointRow, Wire } from "../model/endpoint.ts";
import type { Addr } from "../net/addr.ts";
import { wiringOf } from "./endpoints.ts";

const [STATUS, WIRED] = ["10.0.0.1", "10.0.0.2"] as Addr[];

const ROW: EndpointRow = {
  uid: "u",
  node: "n1",
  namespace: "a",
  serviceAccount: undefined,
  labels: new Map(),
  state: "live",
  addresses: [STATUS as Addr],
  addressesFrom: "status",
  ports: [],
};

function wire(addresses: readonly Addr[]): Wire {
  return { workload: { kind: "Pod", namespace: "a", name: "p" }, interface: "cali0", addresses };
}

test("a wire without addresses makes an endpoint, and leaves to the object which addresses it contributes", () => {
  const isRecorded = (): boolean => true;
  const [unwired, wired] = [wire([]), wire([WIRED as Addr])];
  expect(wiringOf(ROW, [unwired], "n1", isRecorded)).toEqual({ addresses: [STATUS as Addr], local: [unwired] });
  expect(wiringOf(ROW, [wired], "n1", isRecorded)).toEqual({ addresses: [WIRED as Addr], local: [wired] });
  expect(wiringOf(ROW, [unwired], "n2", isRecorded)).toEqual({ addresses: [STATUS as Addr], local: [] });
});
