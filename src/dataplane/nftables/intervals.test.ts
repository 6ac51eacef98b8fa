import { expect, test } from "bun:test";
import fc from "fast-check";
import { addrFromBytes, addrFromInteger, type Family } from "../../net/addr.ts";
import { mergeRanges, type Prefix, prefixOf, prefixRange } from "../../net/prefix.ts";
import { hexAddr } from "./bytes.ts";
import { type Interval, Intervals } from "./intervals.ts";

const texts = (...nets: string[]): Prefix[] => nets as Prefix[];
const textOf = ({ first, last }: Interval): string => `${first}-${last}`;

/** The intervals of nets of one family, from scratch. */
function mergedOf(nets: Iterable<Prefix>): string[] {
  return mergeRanges([...nets].map(prefixRange)).map(({ family, first, last }) =>
    textOf({ first: hexAddr(addrFromInteger(family, first)), last: hexAddr(addrFromInteger(family, last)) }),
  );
}

/** Around few addresses, the first and last among them, so that nets hold each other, meet and repeat. */
function netOf(family: Family): fc.Arbitrary<Prefix> {
  const length = family === 4 ? 4 : 16;
  const digits = fc.record({
    fill: fc.constantFrom(0, 0x7f, 0x80, 255),
    last: fc.constantFrom(0, 1, 2, 3, 4, 7, 8, 254, 255),
  });
  const bits = fc.oneof(fc.integer({ min: 0, max: length * 8 }), fc.integer({ min: length * 8 - 4, max: length * 8 }));
  return fc.tuple(digits, bits).map(([{ fill, last }, prefixLength]) => {
    const bytes = new Uint8Array(length).fill(fill);
    bytes[length - 1] = last;
    return prefixOf(addrFromBytes(bytes), prefixLength);
  });
}

for (const family of [4, 6] as const)
  test(`whatever nets come and go, the intervals are those of a merge from scratch, IPv${family}`, () => {
    const net = netOf(family);
    fc.assert(
      fc.property(
        fc.uniqueArray(net, { maxLength: 60 }),
        fc.array(fc.uniqueArray(net, { maxLength: 8 }), { maxLength: 12 }),
        (first, steps) => {
          const nets = new Set(first);
          const intervals = new Intervals(nets);
          let kernel = new Set(mergedOf(nets));
          for (const toggled of steps) {
            const removed = toggled.filter((each) => nets.delete(each));
            const added = toggled.filter((each) => !removed.includes(each));
            for (const each of added) nets.add(each);
            const change = intervals.apply(added, removed);
            // Only what is there goes, only what is not there comes, and nothing goes and comes.
            for (const each of change.removed.map(textOf)) expect(kernel.delete(each)).toBe(true);
            for (const each of change.added.map(textOf)) expect(kernel.has(each)).toBe(false);
            kernel = new Set([...kernel, ...change.added.map(textOf)]);
            for (const each of change.removed.map(textOf)) expect(kernel.has(each)).toBe(false);
            const wanted = mergedOf(nets);
            expect(intervals.all().map(textOf)).toEqual(wanted);
            expect(kernel).toEqual(new Set(wanted));
            expect(intervals.size).toBe(wanted.length);
            for (const each of intervals.all()) expect(intervals.has(each)).toBe(true);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

test("a net beside others joins them, one in another changes nothing, and one that goes leaves what others hold", () => {
  const intervals = new Intervals(texts("10.0.0.0/24", "10.0.2.0/24", "10.9.0.0/16", "10.9.9.0/24"));
  const changed = (added: Prefix[], removed: Prefix[]): [string[], string[]] => {
    const change = intervals.apply(added, removed);
    return [change.added.map(textOf), change.removed.map(textOf)];
  };
  expect(changed(texts("10.0.1.0/24"), [])).toEqual([
    ["0a000000-0a0002ff"],
    ["0a000000-0a0000ff", "0a000200-0a0002ff"],
  ]);
  expect(changed(texts("10.9.0.0/20"), [])).toEqual([[], []]);
  expect(changed([], texts("10.9.0.0/16"))).toEqual([["0a090000-0a090fff"], ["0a090000-0a09ffff"]]);
  expect(changed(texts("0.0.0.0/0"), [])).toEqual([["00000000-ffffffff"], ["0a000000-0a0002ff", "0a090000-0a090fff"]]);
  expect(changed([], texts("0.0.0.0/0"))).toEqual([["0a000000-0a0002ff", "0a090000-0a090fff"], ["00000000-ffffffff"]]);
  expect(() => intervals.apply([], texts("10.1.0.0/24"))).toThrow("not added");
});

test("a hundred changes of one net each take less than a merge of all", () => {
  const nets = Array.from({ length: 40_000 }, (_, i) => `10.${i >> 8}.${i & 255}.0/30` as Prefix);
  const timed = (run: () => void): number => {
    const start = performance.now();
    run();
    return performance.now() - start;
  };
  const intervals = new Intervals(nets);
  const merge = timed(() => void new Intervals(nets));
  const changes = timed(() => {
    for (let i = 0; i < 50; i++) {
      const net = texts(`10.${i}.3.4/30`);
      expect(intervals.apply(net, []).added.length).toBe(1);
      expect(intervals.apply([], net).removed.length).toBe(1);
    }
  });
  expect(changes).toBeLessThan(merge);
});
