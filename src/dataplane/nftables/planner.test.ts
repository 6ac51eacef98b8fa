import { expect, test } from "bun:test";
import type { Addr } from "../../net/addr.ts";
import type { SetId, SetMembers } from "../../program/policy.ts";
import type { Program } from "../../program/program.ts";
import { DEFAULT_SETTINGS } from "../../program/settings.ts";
import { Refusals } from "../refusals.ts";
import { TableState } from "../table-state.ts";
import { type Unit, UnitQueue } from "../units.ts";
import { setName } from "./names.ts";
import { PendingElements } from "./pending-elements.ts";
import { isEmpty, type Plan } from "./plan.ts";
import { Planner } from "./planner.ts";
import { chainId, NFT_ROWS, type NftRow, setId } from "./rows.ts";
import { kernelSetsOf, netsByFamily, wantedElements } from "./sets.ts";

interface Bench {
  readonly state: TableState<NftRow>;
  readonly elements: PendingElements;
  readonly todo: UnitQueue;
  readonly plan: (mostUs: number) => Plan;
}

function bench(): Bench {
  const state = new TableState(NFT_ROWS);
  const elements = new PendingElements();
  const todo = new UnitQueue();
  const planner = new Planner(state, elements, new Refusals(state, { monotonicMs: () => 0, wallMs: () => 0 }));
  const plan = (mostUs: number): Plan => planner.plan(todo, mostUs, false, (unit) => todo.delete(unit));
  return { state, elements, todo, plan };
}

/** A chain without rules, as wanted. */
function want({ state, todo }: Bench, name: string): NftRow {
  const unit: Unit = { kind: "policy", id: `policy ${name}`, object: undefined };
  const row: NftRow = { type: "chain", chain: name, base: undefined, rules: [] };
  for (const each of state.setWants(new Map([[chainId(name), { row, unit }]]))) todo.add(each);
  return row;
}

test("units with nothing to do are looked at some at a time, and what comes after them is found", () => {
  const it = bench();
  for (let i = 0; i < 1_000; i++) it.state.setHave(chainId(`c${i}`), want(it, `c${i}`));
  want(it, "new");
  const plans = [it.plan(5_000), it.plan(5_000), it.plan(5_000)];
  expect(plans.map((plan) => [isEmpty(plan), plan.hasMore])).toEqual([
    [true, true],
    [true, true],
    [false, false],
  ]);
  expect(plans[2]?.rows.map(({ id }) => id)).toEqual([chainId("new")]);
  expect(it.todo.size).toBe(1);
  // Who asks for everything gets it.
  const again = bench();
  for (let i = 0; i < 1_000; i++) again.state.setHave(chainId(`c${i}`), want(again, `c${i}`));
  want(again, "new");
  expect(again.plan(Infinity).rows).toHaveLength(1);
});

test("the set of a family that few of many members have is filled some members at a time, and is not whole before", () => {
  const it = bench();
  const id = "s-0" as SetId;
  const hosts = new Set(Array.from({ length: 10_000 }, (_, i) => `10.0.${i >> 8}.${i & 255}` as Addr)).add(
    "fd00::1" as Addr,
  );
  const members: SetMembers = { type: "address", hosts, nets: new Set() };
  const program: Program = {
    settings: DEFAULT_SETTINGS,
    sets: new Map([[id, members]]),
    policies: new Map(),
    endpoints: new Map(),
    routes: new Map(),
  };
  const name = setName(id, 6);
  const is = kernelSetsOf(id, "address", netsByFamily(members)).find((set) => set.name === name)?.is;
  const wanted = wantedElements(program, name, () => undefined);
  if (is === undefined || wanted === undefined) throw new Error("there is such a set");
  const unit: Unit = { kind: "set", id: "set s-0", object: undefined };
  const row: NftRow = { type: "set", set: name, is };
  it.state.setWants(new Map([[setId(name), { row, unit }]]));
  it.state.setHave(setId(name), row);
  it.todo.add(unit);
  it.elements.fill(name, unit.id, is, wanted.filling());
  const plans = [it.plan(5_000), it.plan(5_000), it.plan(5_000)];
  expect(plans.map((plan) => [plan.elements.map(({ add }) => add.length), plan.hasMore])).toEqual([
    [[], true],
    [[], true],
    [[1], false],
  ]);
  expect([...wanted.filling()].filter((element) => element !== undefined)).toEqual([...wanted.elements()]);
});
