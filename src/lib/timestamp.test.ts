import { expect, test } from "bun:test";
import { formatTimestamp } from "./timestamp.ts";

test("agrees with the platform over leap days, century ends and random moments", () => {
  const moments = [0, 951_782_399_999, 951_782_400_000, 1_709_164_800_000, 4_107_542_400_000, 1_795_651_182_123];
  for (let i = 0; i < 2000; i++) moments.push(i * 1_234_567_891 + i);
  for (const ms of moments) expect(formatTimestamp(ms)).toBe(new Date(ms).toISOString());
});
