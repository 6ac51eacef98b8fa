import { expect, test } from "bun:test";
import { ClassicAnswers } from "./classic.ts";

const ANSWER = [
  "2002-Name       Proto      Table      State  Since         Info",
  "1002-device1    Device     ---        up     2026-11-29 12:40:00  ",
  " own4       Static     master4    up     2026-11-29 12:40:00  ",
  " Mesh_172_30_0_12 BGP        ---        up     2026-11-29 12:40:01  Established   ",
  " Mesh_fd00_30__12 BGP        ---        start  2026-11-29 12:40:01  Active        Socket: Connection refused",
  "0000 ",
];

test("show protocols: header in lower case, time in one word, IPv6 sessions with their address", () => {
  const answers = new ClassicAnswers();
  expect(answers.answer("0001 BIRD 2.0.12 ready.")).toBe("0001 BIRD 2.0.12 ready.");
  answers.command("show protocols");
  expect(ANSWER.map((line) => answers.answer(line))).toEqual([
    "2002-name     proto    table    state  since       info",
    "1002-device1 Device --- up 2026-11-29T12:40:00 ",
    " own4 Static master4 up 2026-11-29T12:40:00 ",
    " Mesh_172_30_0_12 BGP --- up 2026-11-29T12:40:01 Established",
    " Mesh_fd00:30::12 BGP --- start 2026-11-29T12:40:01 Active        Socket: Connection refused",
    "0000 ",
  ]);
});

test("other commands pass unchanged, also in between", () => {
  const answers = new ClassicAnswers();
  answers.answer("0001 BIRD 2.0.12 ready.");
  for (const command of ["show protocols all", "sh prot", "show status"]) answers.command(command);
  expect(answers.answer(ANSWER[0] ?? "")).toBe(ANSWER[0] ?? "");
  expect(answers.answer("0000 ")).toBe("0000 ");
  expect(answers.answer(ANSWER[0] ?? "")).toStartWith("2002-name ");
  expect(answers.answer("0000 ")).toBe("0000 ");
  expect(answers.answer("1000-BIRD 2.0.12")).toBe("1000-BIRD 2.0.12");
});
