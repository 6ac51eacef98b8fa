import { expect, test } from "bun:test";
import { Normaliser } from "./normalise.ts";

const normaliser = new Normaliser("q7x2ab");

/** As k8s.io/apimachinery/pkg/util/duration prints them. */
const AGES = [
  "<invalid>",
  "0s",
  "119s",
  "2m",
  "9m59s",
  "179m",
  "3h",
  "7h59m",
  "47h",
  "2d",
  "7d23h",
  "729d",
  "2y",
  "2y1d",
  "7y364d",
  "8y",
  "40y",
] as const;

for (const age of AGES) {
  test(`${age} is an age, in a table and in kubectl's output`, () => {
    const table = { columnDefinitions: [], rows: [{ cells: ["web", 1, age, `${age} ago`] }] };
    expect(normaliser.value(table)).toEqual({ columnDefinitions: [], rows: [{ cells: ["web", 1, "AGE", "AGE"] }] });
    expect(normaliser.output(`NAME   AGE\nweb    ${age}\n${age}    web`)).toBe("NAME  AGE\nweb  AGE\nAGE  web");
  });
}

test("a name that resembles an age stays", () => {
  for (const name of ["2yd", "y", "5x", "10", "3d-web"]) {
    expect(normaliser.value({ columnDefinitions: [], rows: [{ cells: [name] }] })).toEqual({
      columnDefinitions: [],
      rows: [{ cells: [name] }],
    });
  }
});

test.each([
  "2026-11-29 12:00:00 +0000 UTC",
  "2038-11-30 02:35:38 +1400 +14",
  "2026-11-29 07:00:00 -0500 EST",
  "2026-11-29 17:45:00 +0545 +0545",
])("%s is a time", (time) => {
  expect(normaliser.output(`Created on:  ${time}`)).toBe("Created on:  TIME");
});
