import { expect, test } from "bun:test";
import { type RowUpdate, rowsFor } from "../model/convert/rows.ts";
import { formatKey } from "../model/key.ts";
import type { Update } from "../model/update.ts";
import { PolicyVersions } from "./policy-versions.ts";

const KEY = { kind: "NetworkPolicy", namespace: "a", name: "p" } as const;

function update(revision: string, generation: number | undefined, uid = "u1"): RowUpdate {
  const metadata = { name: "p", namespace: "a", uid, resourceVersion: revision };
  const value = { apiVersion: "projectcalico.org/v3", kind: "NetworkPolicy", metadata, spec: {} };
  return rowsFor("n1")({ kind: KEY.kind, key: KEY, value, origin: { revision, generation, seenAt: 0 } } as Update);
}

function gone(revision: string): RowUpdate {
  const origin = { revision, generation: undefined, seenAt: 0 };
  return rowsFor("n1")({ kind: KEY.kind, key: KEY, value: undefined, origin });
}

test("an update of the generation that is known is no news, but it is observed", () => {
  const versions = new PolicyVersions();
  expect(versions.take([update("5", 1)])).toHaveLength(1);
  expect(versions.take([update("6", 1)])).toHaveLength(0);
  expect(versions.observed.get("NetworkPolicy")).toBe(6);
  expect([versions.news, versions.updates]).toEqual([1, 2]);
  expect(versions.take([update("7", 2)])).toHaveLength(1);
  expect(versions.generationOf(formatKey(KEY))).toBe(2);
});

test("one that was made anew is news, and so is one that is gone or comes back", () => {
  const versions = new PolicyVersions();
  versions.take([update("5", 1)]);
  expect(versions.take([update("8", 1, "u2")])).toHaveLength(1);
  expect(versions.take([gone("9")])).toHaveLength(1);
  expect(versions.generationOf(formatKey(KEY))).toBe(-1);
  expect(versions.observed.get("NetworkPolicy")).toBe(9);
  expect(versions.take([update("8", 1, "u2")])).toHaveLength(1);
  expect(versions.observed.get("NetworkPolicy")).toBe(9);
});

test("without generations, every update is news", () => {
  const versions = new PolicyVersions();
  expect(versions.take([update("5", undefined), update("6", undefined)])).toHaveLength(2);
});
