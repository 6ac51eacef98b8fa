import { expect, test } from "bun:test";
import { compareRecords, type Recording } from "./compare.ts";
import type { IntendedDifference } from "./differences.ts";
import type { Exchange } from "./recorder.ts";

const exchange = (asked: string, body: string): Exchange => ({ asked, answered: { status: 200, body: { message: body } } });
const recording: Recording = { server: "v1", kubectl: "v1", exchanges: { a: exchange("GET a", "x"), b: exchange("GET b", "y") } };
const intended: readonly IntendedDifference[] = [{ what: "words", here: "", where: [{ exchanges: ["a"], at: ["body.message"] }] }];

function faults(records: Readonly<Record<string, Exchange>>, list = intended): readonly string[] {
  return compareRecords(recording, new Map(Object.entries(records)), "v1", list).faults;
}

test("a listed difference passes and is named", () => {
  const result = compareRecords(recording, new Map([["a", exchange("GET a", "z")], ["b", exchange("GET b", "y")]]), "v1", intended);
  expect(result).toEqual({ compared: 2, byExitCodeAlone: 0, differing: 1, intended: [{ what: "words", exchanges: ["a"] }], faults: [] });
});

test("a difference that is not listed fails, also elsewhere in a listed exchange", () => {
  expect(faults({ a: exchange("GET a", "z"), b: exchange("GET b", "z") })).toEqual(['b: body.message is "z", Kubernetes answers "y"']);
  expect(faults({ a: { asked: "GET a", answered: { status: 404, body: { message: "z" } } }, b: exchange("GET b", "y") })).toEqual(["a: status is 404, Kubernetes answers 200"]);
});

test("a listed difference that is gone fails", () => {
  expect(faults({ a: exchange("GET a", "x"), b: exchange("GET b", "y") })).toEqual(['a: it no longer differs at body.message; take it out of "words"']);
});

test("exchanges that are missing, new or asked otherwise fail", () => {
  expect(faults({ a: exchange("GET a?x", "x"), c: exchange("GET c", "x") }, [])).toEqual([
    "a: something else was asked when it was recorded; record again",
    "c: it is not recorded; record again",
    "b: it is recorded, but was not carried out; record again",
  ]);
});

test("what another kubectl says is compared by its exit code, unless it lacks the verb or option", () => {
  const said = (exit: number, stderr: string): Exchange => ({ asked: "kubectl", answered: { exit, stdout: "", stderr } });
  const other: Recording = { server: "v1", kubectl: "v2", exchanges: { "kubectl: a": said(0, "") } };
  const compare = (answer: Exchange): readonly string[] => compareRecords(other, new Map([["kubectl: a", answer]]), "v1", []).faults;
  expect(compare(said(0, "other words"))).toEqual([]);
  expect(compare(said(1, "Error: unknown flag: --subresource"))).toEqual([]);
  expect(compare(said(1, "error"))).toEqual(["kubectl: a: exit is 1, Kubernetes answers 0"]);
});
