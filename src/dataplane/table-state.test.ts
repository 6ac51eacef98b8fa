import { expect, test } from "bun:test";
import fc from "fast-check";
import { type RowKind, TableState } from "./table-state.ts";
import type { Unit } from "./units.ts";

interface Row {
  readonly value: number;
  readonly to: readonly string[];
}

const KIND: RowKind<Row> = {
  same: (a, b) => JSON.stringify(a) === JSON.stringify(b),
  referencesOf: ({ to }) => to,
  referenceChange: (before, now) => ({
    added: (now?.to ?? []).filter((each) => before?.to.includes(each) !== true),
    removed: (before?.to ?? []).filter((each) => now?.to.includes(each) !== true),
  }),
  closed: (row) => row,
  isDispatchApart: false,
};

const id = fc.constantFrom("r1", "r2", "r3", "r4");
const unit = fc
  .constantFrom("policy 1", "policy 2")
  .map((name): Unit => ({ kind: "policy", id: name, object: undefined }));
const row = fc.record({ value: fc.nat(1), to: fc.uniqueArray(id, { maxLength: 2 }) });
const step = fc.oneof(
  fc.record({ set: fc.constant("want" as const), id, row: fc.option(row, { nil: undefined }), unit }),
  fc.record({ set: fc.constant("have" as const), id, row: fc.option(row, { nil: undefined }), unit }),
);

test("whatever is wanted and had in whatever order: each row has one owner, which knows those of its rows that are pending, and users are those that the kernel has", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const state = new TableState(KIND);
      for (const { set, id: rowId, row: value, unit: owner } of steps) {
        if (set === "want") state.setWants(new Map([[rowId, value && { row: value, unit: owner }]]));
        else state.setHave(rowId, value);
        const ids = new Set([...state.want.keys(), ...state.have.keys()]);
        const owned = [...state.units].flatMap((each) => [...state.rowsOf(each.id)].map((one) => [one, each] as const));
        expect(owned.map(([one]) => one).sort()).toEqual([...ids].sort());
        for (const [one, each] of owned) expect(state.ownerOf(one)).toBe(each);
        for (const each of state.units)
          expect([...state.pendingOf(each.id)].sort()).toEqual(
            [...state.rowsOf(each.id)].filter((one) => state.isPending(one)).sort(),
          );
        expect([...state.pendingOf("policy 1"), ...state.pendingOf("policy 2")].length).toBeLessThanOrEqual(ids.size);
        for (const one of ["r1", "r2", "r3", "r4"])
          expect([...state.usersOf(one)].sort()).toEqual(
            [...state.have].flatMap(([user, { to }]) => (to.includes(one) ? [user] : [])).sort(),
          );
      }
    }),
  );
});
