import { expect, test } from "bun:test";
import { compareRecords, type Recording } from "./compare.ts";
import type { IntendedDifference } from "./differences.ts";
import type { Exchange } from "./recorder.ts";

const exchange = (asked: string, body: string): Exchange => ({
  asked,
  answered: { status: 200, body: { message: body } },
});
const recording: Recording = {
  server: "v1",
  plain: { a: exchange("GET a", "x"), b: exchange("GET b", "y") },
  kubectl: { v1: {} },
};
const intended: readonly IntendedDifference[] = [
  { what: "words", here: "", where: [{ exchanges: ["a"], at: ["body.message"] }] },
];

function faults(records: Readonly<Record<string, Exchange>>, list = intended): readonly string[] {
  return compareRecords(recording, new Map(Object.entries(records)), "v1", list).faults;
}

test("a listed difference passes and is named", () => {
  const result = compareRecords(
    recording,
    new Map([
      ["a", exchange("GET a", "z")],
      ["b", exchange("GET b", "y")],
    ]),
    "v1",
    intended,
  );
  expect(result).toEqual({
    compared: 2,
    notCompared: 0,
    differing: 1,
    intended: [{ what: "words", exchanges: ["a"] }],
    faults: [],
  });
});

test("a difference that is not listed fails, also elsewhere in a listed exchange", () => {
  expect(faults({ a: exchange("GET a", "z"), b: exchange("GET b", "z") })).toEqual([
    'b: body.message is "z", Kubernetes answers "y"',
  ]);
  expect(
    faults({ a: { asked: "GET a", answered: { status: 404, body: { message: "z" } } }, b: exchange("GET b", "y") }),
  ).toEqual(["a: status is 404, Kubernetes answers 200"]);
});

test("a listed difference that is gone fails", () => {
  expect(faults({ a: exchange("GET a", "x"), b: exchange("GET b", "y") })).toEqual([
    'a: it no longer differs at body.message; take it out of "words"',
  ]);
});

test("exchanges that are missing, new or asked otherwise fail", () => {
  expect(faults({ a: exchange("GET a?x", "x"), c: exchange("GET c", "x") }, [])).toEqual([
    "a: something else was asked when it was recorded; record again",
    "c: it is not recorded; record again",
    "b: it is recorded, but was not carried out; record again",
  ]);
});

test("each kubectl is compared with the recording of its version; one that is not recorded is not compared", () => {
  const said = (stdout: string): Exchange => ({ asked: "kubectl", answered: { exit: 0, stdout, stderr: "" } });
  const clients: Recording = {
    server: "v1",
    plain: {},
    kubectl: { v2: { "kubectl: a": said("new") }, v1: { "kubectl: a": said("old") } },
  };
  const compare = (kubectl: string, stdout: string): unknown => {
    const { compared, notCompared, faults } = compareRecords(
      clients,
      new Map([["kubectl: a", said(stdout)]]),
      kubectl,
      [],
    );
    return [compared, notCompared, faults];
  };
  expect(compare("v2", "new")).toEqual([1, 0, []]);
  expect(compare("v1", "old")).toEqual([1, 0, []]);
  expect(compare("v1", "new")).toEqual([1, 0, ['kubectl: a: stdout is "new", Kubernetes answers "old"']]);
  expect(compare("v3", "anything")).toEqual([0, 1, []]);
});
