/** settings-planner: what holds for the node as a whole: what workloads may do to their node, and failsafe ports, a version of which is in force. */
import { bytesFromHex, bytesToHex } from "../../lib/bytes.ts";
import { equal } from "../../lib/equal.ts";
import { DIRECTIONS, type Program } from "../../program/program.ts";
import type { Changes } from "./changes.ts";
import type { Image } from "./image.ts";
import { encodeFailsafeKeys, words } from "./layout.ts";
import type { DataplaneMaps } from "./maps.ts";

export interface SettingsPlanning {
  readonly program: Program;
  readonly image: Image;
  readonly maps: DataplaneMaps;
  readonly changes: Changes;
  /** The program has host endpoints. */
  readonly hasHosts: boolean;
  /** Failsafe ports are compared too. */
  readonly isWhole: boolean;
}

export function planSettings({ program, image, maps, changes, hasHosts, isWhole }: SettingsPlanning): void {
  const { settings } = program;
  const { state, failsafes } = image;
  changes.state = {
    ...changes.state,
    dropsForHost: settings.endpointToHost === "drop",
    hasHostEndpoints: hasHosts,
  };
  if (state.generation === 0 || !equal(changes.state, { ...state, generation: changes.next })) {
    changes.isSwitched = true;
    changes.note("~", "settings");
  }
  if (!isWhole) return;
  const keysOf = (version: number): Uint8Array[] =>
    DIRECTIONS.flatMap((direction) =>
      settings.failsafes[direction].flatMap((entry) => encodeFailsafeKeys(version, direction, entry)),
    );
  const wanted = keysOf(state.failsafes).map((key) => bytesToHex(key));
  if (new Set(wanted).size === failsafes.size && wanted.every((key) => failsafes.has(key))) return;
  changes.isSwitched = true;
  changes.note("~", "failsafe ports");
  const version = changes.next;
  changes.state = { ...changes.state, failsafes: version };
  const run = (): void =>
    maps.writeAll(
      maps.failsafes,
      keysOf(version).map((key) => ({ key, value: words(1) })),
    );
  changes.prepare.push({ unit: "settings", run });
  changes.clean.push(() =>
    maps.removeAll(
      maps.failsafes,
      [...failsafes].flatMap((hex) => bytesFromHex(hex) ?? []),
    ),
  );
  changes.apply.push(() => {
    image.failsafes = new Set(keysOf(version).map((key) => bytesToHex(key)));
  });
}
