import { expect, test } from "bun:test";
import type { Resource } from "../../src/model/resource.ts";
import { ApiError } from "./api.ts";
import { Scheduler } from "./scheduler.ts";

const NODES = ["n1", "n2"].map((name): Resource<"Node"> => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name },
  status: { conditions: [{ type: "Ready", status: "True" }] },
}));

function pod(name: string, nodeName?: string): Resource<"Pod"> {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { namespace: "a", name, uid: `uid-${name}` },
    spec: { containers: [], ...(nodeName === undefined ? {} : { nodeName }) },
  };
}

/** The bindings asked for, `pod node`; `refuse` answers the next one. */
function start(): { readonly scheduler: Scheduler; readonly bound: string[]; refuse: Error | undefined } {
  const state = {
    bound: [] as string[],
    refuse: undefined as Error | undefined,
    scheduler: new Scheduler({
      request: async <T>(_method: string, path: string, body?: unknown): Promise<T> => {
        state.bound.push(`${path.split("/").at(-2)} ${(body as { target: { name: string } }).target.name}`);
        const error = state.refuse;
        state.refuse = undefined;
        if (error !== undefined) throw error;
        return undefined as T;
      },
    }),
  };
  return state;
}

test("a pod fills its node as soon as it is bound, though the watch does not say so yet", async () => {
  const { scheduler, bound } = start();
  scheduler.step([pod("one")], NODES);
  await Bun.sleep(0);
  scheduler.step([pod("one"), pod("two")], NODES);
  await Bun.sleep(0);
  scheduler.step([pod("one", "n1"), pod("two"), pod("three")], NODES);
  expect(bound).toEqual(["one n1", "two n2", "three n1"]);
});

test("a pod whose binding is refused is bound again", async () => {
  const state = start();
  state.refuse = new ApiError(409, "conflict");
  state.scheduler.step([pod("one")], NODES);
  await Bun.sleep(0);
  state.scheduler.step([pod("one")], NODES);
  expect(state.bound).toEqual(["one n1", "one n1"]);
});

test("a pod that is gone fills no node", async () => {
  const { scheduler, bound } = start();
  scheduler.step([pod("one")], NODES);
  await Bun.sleep(0);
  scheduler.step([pod("two")], NODES);
  expect(bound).toEqual(["one n1", "two n1"]);
});
