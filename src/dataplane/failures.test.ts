import { expect, test } from "bun:test";
import { KernelError } from "../kernel/errno.ts";
import { VirtualClock } from "../lib/virtual-clock.ts";
import { Failures } from "./failures.ts";

const ENOSPC = 28;
const error = new KernelError("add", "row", ENOSPC);

test("each row is due by itself, less and less often; what changes is due at once; success forgets it", async () => {
  const clock = new VirtualClock(1_000);
  const failures = new Failures(clock);
  failures.add("a", error);
  await clock.advance(60);
  failures.add("b", error);
  expect([failures.due(), failures.nextMs]).toEqual([[], 100]);
  await clock.advance(40);
  expect(failures.due()).toEqual(["a"]);
  failures.add("a", error);
  expect(failures.get("a")).toMatchObject({ attempts: 2, sinceMs: 1_000, retryAtMs: 300 });
  expect(failures.nextMs).toBe(160);
  failures.hasten("a");
  failures.hasten("never");
  expect([failures.due(), failures.get("a")?.attempts]).toEqual([["a"], 2]);
  for (let i = 0; i < 20; i++) failures.add("a", error);
  expect((failures.get("a")?.retryAtMs ?? 0) - clock.monotonicMs()).toBe(30_000);
  failures.forget("a");
  failures.forget("b");
  expect([failures.size, failures.nextMs, failures.due()]).toEqual([0, undefined, []]);
});
