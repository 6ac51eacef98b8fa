/** pod-state: what the lab's kubelet stores about a pod sandbox on disk, so that pods survive the supervisor. */
import { existsSync, readdirSync, rmSync } from "node:fs";
import type { CniResult, Sandbox } from "./cni.ts";
import type { ProcessId } from "./daemon.ts";
import { readJson, replaceFile } from "./files.ts";

export interface PodState {
  readonly sandbox: Sandbox;
  readonly node: string;
  readonly netns: string;
  readonly cgroup: string;
  /** Absent until ADD has answered. */
  readonly result?: CniResult;
  readonly process?: ProcessId;
  readonly restarts: number;
  readonly startedAt: string;
}

/** The pods that have a sandbox, or are about to get one. */
export function loadPods(directory: string): PodState[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((file) => file.endsWith(".json"))
    .flatMap((file) => readJson<PodState>(`${directory}/${file}`) ?? []);
}

export function savePod(directory: string, state: PodState): void {
  replaceFile(`${directory}/${state.sandbox.uid}.json`, JSON.stringify(state));
}

export function forgetPod(directory: string, uid: string): void {
  rmSync(`${directory}/${uid}.json`, { force: true });
}

/** Addresses without prefix lengths. */
export function addressesOf(state: PodState): string[] {
  return (state.result?.ips ?? []).map((ip) => ip.address.replace(/\/\d+$/, ""));
}

export function hostInterfaceOf(state: PodState): string | undefined {
  return state.result?.interfaces?.find((entry) => entry.sandbox === undefined)?.name;
}
