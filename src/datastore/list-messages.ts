/** List messages: what the thread that reads lists and the one that needs them send each other: JSON, one object a text. */
import type { PagedKind, RowPage } from "../model/convert/row-pages.ts";
import type { ApiGroup } from "./kubernetes/codec.ts";
import type { KubernetesAccess } from "./kubernetes/kubeconfig.ts";
import type { StoreReason } from "./store.ts";

export type ToThread =
  /** First, and once. */
  | {
      readonly type: "open";
      readonly access: KubernetesAccess;
      readonly group: ApiGroup | "detect";
      readonly node: string;
    }
  | { readonly type: "list"; readonly id: number; readonly kind: PagedKind }
  /** A page was taken: one more may be sent. */
  | { readonly type: "more"; readonly id: number }
  | { readonly type: "stop"; readonly id: number };

/** After `end` and `failed` comes nothing more of that list. */
export type FromThread =
  | {
      readonly type: "page";
      readonly id: number;
      readonly isFirst: boolean;
      readonly revision: string;
      readonly rows: RowPage;
    }
  /** `count`: how many objects the list has. */
  | { readonly type: "end"; readonly id: number; readonly count: number }
  | { readonly type: "failed"; readonly id: number; readonly error: SentError };

/** A StoreError without its key: lists have none. */
export interface SentError {
  readonly reason: StoreReason;
  readonly kind: string;
  readonly message: string;
  readonly retryAfterMs: number | undefined;
}

/** Pages that may be on the way. */
export const PAGES_AHEAD = 4;

export function writeMessage(message: ToThread | FromThread): string {
  return JSON.stringify(message);
}

export function readToThread(text: string): ToThread {
  return JSON.parse(text) as ToThread;
}

export function readFromThread(text: string): FromThread {
  return JSON.parse(text) as FromThread;
}
