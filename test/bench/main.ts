/**
 * bench: `make bench`: what a pod start, a label change and a packet cost, each beside something real in the same run, because
 * machines are noisy and only ratios carry over.
 *
 * Usage: bun test/bench/main.ts [cni] [label] [packet] [memory]; without names, all.
 */
import { Lab } from "../conformance/fixture.ts";
import { benchCni } from "./cni.ts";
import { benchLabel } from "./label.ts";
import { benchMemory } from "./memory.ts";
import { benchPacket } from "./packet.ts";

const BENCHES: Readonly<Record<string, (lab: Lab) => Promise<void>>> = {
  memory: benchMemory,
  cni: benchCni,
  label: benchLabel,
  packet: benchPacket,
};

const wanted = process.argv.slice(2);
for (const name of wanted) {
  if (BENCHES[name] === undefined) {
    console.error(`there is no bench ${JSON.stringify(name)}, only ${Object.keys(BENCHES).join(", ")}`);
    process.exit(2);
  }
}
const lab = new Lab();
try {
  await lab.up("--nodes", "2");
  for (const [name, bench] of Object.entries(BENCHES))
    if (wanted.length === 0 || wanted.includes(name)) await bench(lab);
} finally {
  await lab.down();
}
