import { expect, test } from "bun:test";
import { Answers } from "./answers.ts";

const answering = (n: number) => ({ family: 2, tuple: Uint8Array.of(n) });

test("each is looked for a few times, ever more rarely, and then forgotten", () => {
  const answers = new Answers();
  expect(answers.dueMs).toBe(Infinity);
  answers.await([answering(1)], 1000);
  const looks: number[] = [];
  for (let nowMs = 1000; nowMs < 20_000; nowMs++) if (answers.take(nowMs).length > 0) looks.push(nowMs - 1000);
  expect(looks).toEqual([1, 5, 25, 100, 400, 1_500, 5_000]);
  expect(answers.dueMs).toBe(Infinity);
});

test("a look that comes late stands for those that it missed", () => {
  const answers = new Answers();
  answers.await([answering(1)], 0);
  expect(answers.take(200).length).toBe(1);
  expect(answers.take(201).length).toBe(0);
  expect(answers.dueMs).toBe(400);
});

test("of very many those that were cut last", () => {
  const answers = new Answers();
  for (let i = 0; i < 30; i++)
    answers.await(
      Array.from({ length: 100 }, () => answering(i)),
      i,
    );
  const due = answers.take(31);
  expect(due.length).toBe(2000);
  expect(due[0]?.tuple).toEqual(Uint8Array.of(10));
});
